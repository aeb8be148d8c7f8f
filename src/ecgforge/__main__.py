"""`python -m ecgforge` is the command line; torchrun starts it this way."""

from ecgforge.serving.cli import main

main()
