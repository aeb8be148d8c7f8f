"""The doors: command line, REST service and page, over the same few objects."""
