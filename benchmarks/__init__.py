"""Measurements, each a command that prints a table. Not tests: none of them runs in `make test`."""
