"""The research wing: what studies the methods and is not needed to use them.

    densities/         named two-dimensional ground truths, and their true modes
    toy/               a learned denoiser of the plane
    metrics/           how good points and gradients are
    landscape.py       the landscape that a field of gradients descends
    dream.py           DREAM training, and super_resolution/, the model it is measured on
    studies/           what `msd reproduce` runs, a table or figure a file

It imports the core; neither the core nor the nodes import it, and the pack works without this folder.
"""
