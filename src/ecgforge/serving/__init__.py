"""The doors: command line now; service and page stand on the same few objects."""
