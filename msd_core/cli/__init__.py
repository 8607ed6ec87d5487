"""The command line: `msd distill`, `sample`, `render`, `compare` and `train-demo`, one command a file.

A client of the core: a command builds settings, calls the core, and writes files.
"""
