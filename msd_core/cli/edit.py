"""Edit a picture by words: its inversion, brought back under others (without --from: DreamSampler)."""

from __future__ import annotations

import argparse

from .arguments import file, number
from .changed import add_shared, mask_of, prepared, written

HELP = "edit a picture by words"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd edit`."""
    add_shared(parser, 40)
    parser.add_argument("--to", required=True, metavar="PROMPT", help="what it shall show")
    parser.add_argument(
        "--from", dest="source", default="", metavar="PROMPT", help="what it shows, if known: keeps more of it"
    )
    parser.add_argument("--strength", type=number, help="of the words, without --from, per 200 steps (default: 0.2)")
    parser.add_argument("--mask", type=file, help="picture that is white where the other may change (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Read, edit, save; the old file stays until the new one is whole."""
    from ..manipulation import edit

    model, picture, out = prepared(arguments, "edited")
    mask = None if arguments.mask is None else mask_of(arguments.mask, picture)
    options = {"strength": arguments.strength, "steps": arguments.steps, "mask": mask}
    result = edit(picture, arguments.to, arguments.source, model=model, **options)
    return written(result, out, "outside of the mask, before the paste")
