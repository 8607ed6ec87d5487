"""Edit a picture by words: its inversion, brought back under others (without --from: DreamSampler)."""

from __future__ import annotations

import argparse

from .arguments import file, number
from .changed import add_shared, mask_of, prepared, written

HELP = "edit a picture by words"
WORD = "edited"
NUMBERS = ("cfg", "source_cfg", "strength", "steps", "denoise", "inversion", "seed")
"""What `msd_core.edit` and the flags call alike."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd edit`."""
    from ..manipulation.editing import EDITING

    add_shared(parser, 40, WORD)
    parser.add_argument("--to", required=True, metavar="PROMPT", help="what it shall show")
    parser.add_argument(
        "--from", dest="source", default="", metavar="PROMPT", help="what it shows, if known: keeps more of it"
    )
    parser.add_argument("--negative", default="", metavar="PROMPT", help="in the place of the empty prompt")
    parser.add_argument(
        "--cfg", type=number, default=1.0, help="with --from: guidance of the way back (default: 1, off)"
    )
    parser.add_argument("--source-cfg", type=number, help="with --from: guidance of the way to noise (default: off)")
    parser.add_argument(
        "--strength", type=number, help="how strongly --to acts, without --from; per 200 steps (default: 0.2)"
    )
    parser.add_argument(
        "--denoise", type=number, default=1.0, help="how far it is noised, up to 1; less keeps more of it"
    )
    names = ", ".join(EDITING)
    parser.add_argument("--inversion", default="uni-inv", help=f"{names} (default: uni-inv)")
    parser.add_argument("--mask", type=file, help="picture that is white where the other may change (default: all)")


def run(arguments: argparse.Namespace) -> int:
    """Read, edit, save; the old file stays until the new one is whole."""
    from ..manipulation import edit
    from .flags import flag_of

    given = prepared(arguments, WORD)
    mask = None if arguments.mask is None else mask_of(arguments.mask, given)
    options = {name: getattr(arguments, name) for name in ("negative", *NUMBERS)}
    try:
        result = edit(given.picture, arguments.to, arguments.source, model=given.model, mask=mask, **options)
    except ValueError as error:
        name, colon, text = str(error).partition(":")
        if name not in NUMBERS:
            raise
        raise ValueError(f"{flag_of(name)}{colon}{text.replace('Pass source,', 'Pass --from,')}") from error
    return written(result, given, "outside of the mask, before the paste")
