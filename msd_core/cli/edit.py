"""Edit a picture by words: its inversion, brought back under others (without --from: DreamSampler)."""

from __future__ import annotations

import argparse

from .arguments import file, number
from .changed import add_shared, mask_of, prepared, written

HELP = "edit a picture by words"
WORD = "edited"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd edit`."""
    add_shared(parser, 40, WORD)
    parser.add_argument("--to", required=True, metavar="PROMPT", help="what it shall show")
    parser.add_argument(
        "--from", dest="source", default="", metavar="PROMPT", help="what it shows, if known: keeps more of it"
    )
    parser.add_argument(
        "--strength", type=number, help="how strongly --to acts, without --from; per 200 steps (default: 0.2)"
    )
    parser.add_argument("--mask", type=file, help="picture that is white where the other may change (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Read, edit, save; the old file stays until the new one is whole."""
    from ..manipulation import edit

    given = prepared(arguments, WORD)
    mask = None if arguments.mask is None else mask_of(arguments.mask, given)
    options = {"strength": arguments.strength, "steps": arguments.steps, "mask": mask}
    result = edit(given.picture, arguments.to, arguments.source, model=given.model, **options)
    return written(result, given, "outside of the mask, before the paste")
