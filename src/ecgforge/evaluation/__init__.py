"""How good synthetic ECGs are: the measurements of the papers and those that go beyond them."""
