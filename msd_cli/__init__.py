"""The command line: `msd distill`, `msd sample`, `msd render`, `msd train-demo`.

A client of `msd_core`, one command a file. It stands beside the core and not inside it because importing anything of
`msd_core` imports torch; a command imports the core when it runs, so that help and mistyped arguments are answered at
once.
"""
