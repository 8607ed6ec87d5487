"""The command line: `msd distill`, `sample`, `render`, `compare`, `train-demo` and `reproduce`, one a file.

A client of the core: a command builds settings, calls the core, and writes files.
"""
