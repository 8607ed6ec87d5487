"""Compare the methods on the demo model: one row a prompt, one column a method, the judge's verdict under each picture.

Writes contact_sheet.png and compare.json (verdicts, evaluations, seconds, settings). Every method runs with its preset;
DDIM draws the reference. Ctrl-C keeps the rows that are done.
"""

from __future__ import annotations

import argparse

from .arguments import count_to, file, number, path, seed, writable_folder
from .claim import claimed

MOST_SCENES = 10_000
HELP = "contact sheet of DDIM and the distillation methods, judged"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd compare`."""
    parser.add_argument("prompts", nargs="*", help="what to draw (default: --count scenes drawn from the grammar)")
    parser.add_argument("--out", type=path, required=True, help="folder of the results")
    parser.add_argument("--methods", nargs="+", default=["ddim", "sds", "sdi", "msd"], help="columns, in this order")
    parser.add_argument(
        "--count", type=count_to(MOST_SCENES), default=12, help="scenes to draw if no prompt is given (default: 12)"
    )
    parser.add_argument(
        "--things",
        type=count_to(3),
        nargs="+",
        default=[1, 2, 3],
        help="in the drawn scenes, in turn; 2 3 are the harder ones (default: 1 2 3)",
    )
    parser.add_argument("--cfg", type=number, help="guidance scale of every method (default: each preset's own)")
    parser.add_argument("--pull", help="image or latent, for every method but DDIM (default: each preset's own)")
    parser.add_argument("--seed", type=seed, default=0, help="of the scenes, the generators and the noise (default: 0)")
    parser.add_argument("--model", type=file, help="demo model's file (default: the one that ships)")
    parser.add_argument("--force", action="store_true", help="replace what is in --out, whoever has written it")


def run(arguments: argparse.Namespace) -> int:
    """Check the folder, then load torch and compare."""
    folder = writable_folder(arguments.out)

    from .contact_sheet import RESULTS, compare

    with claimed(folder, RESULTS) as claim:
        if not arguments.force:
            claim.check_foreign("--out")
        status = compare(arguments, folder)
        claim.record()
    return status
