"""Data sets as stores: building them, reading them, checking them, simulating them. Needs no torch."""
