"""A sweep: prompts x settings x seeds, each a cell that is run once and kept.

`grid` says which cells there are, `cells` runs a batch of them, `store` keeps each in a file of its own, `pool` spreads
batches over processes or a Ray cluster, and `table` reads all of them back: one row a cell, one line a setting. A cell
is its prompt, options, seed, size, generator and model, whatever ran beside it; what is kept is never run again.
"""
