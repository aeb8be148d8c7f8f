"""What the service is made of: messages, jobs, files and the guard before them; `serving.rest` joins them."""
