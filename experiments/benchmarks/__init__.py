"""Benchmarks: one file each, named as on the command line, with a function `figures` that yields what it measured."""
