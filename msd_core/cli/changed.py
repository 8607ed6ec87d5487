"""What the commands share that change a picture: `edit`, `inpaint`, `invert` and `restore`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import replacing
from .arguments import (
    Size,
    any_size,
    check_cells,
    check_format,
    count,
    file,
    picture_file,
    scaled,
    seed,
    writable_folder,
)
from .models import add_model_flags, model_of, pixels_of

if TYPE_CHECKING:
    from torch import Tensor

    from ..manipulation import Manipulated
    from ..model import Model

NEAR = 1.5
"""How many times longer or shorter than the model's own side a picture may be before the command warns."""


@dataclass(frozen=True)
class Given:
    """What a command changes.

    Attributes:
        model: that changes it.
        picture: (1, 3, H, W), in whole cells of the model.
        out: the result's file.
        own: width and height of the picture's file.
        fit: makes a picture (1, 3, H', W') of that size as large as ``picture``, in the same way.
        warning: what speaks against the result: the model draws best at another size; "" if nothing.
    """

    model: Model
    picture: Tensor
    out: Path
    own: Size
    fit: Callable[[Tensor], Tensor]
    warning: str

    def warn(self) -> None:
        """Print the warning, if there is one."""
        if self.warning:
            print(f"msd: warning: {self.warning}", file=sys.stderr)


def add_shared(parser: argparse.ArgumentParser, steps: int, word: str) -> None:
    """The picture, where the result goes, the size, the steps, the seed and the model; ``word`` as in `prepared`."""
    parser.add_argument("picture", type=file, metavar="PICTURE", help="a PNG or a JPEG")
    parser.add_argument("--out", type=picture_file, help=f"the result's file (default: PICTURE-{word}.png)")
    sizes = "WIDTHxHEIGHT that the picture is resampled to before, and its mask, cut to that shape (default: its own)"
    parser.add_argument("--size", type=any_size, help=sizes)
    parser.add_argument("--steps", type=count, default=steps, help=f"of the sampler (default: {steps})")
    parser.add_argument("--seed", type=seed, default=0, help="of the noise (default: 0)")
    add_model_flags(parser)


def prepared(arguments: argparse.Namespace, word: str, factor: int = 1) -> Given:
    """What is to be changed; the result's file is called PICTURE-``word``, unless it is named.

    The picture is cut so that one ``factor`` times larger is made of whole cells of the model, or resampled to --size.

    Raises:
        ValueError: for a file that is no picture, a size that the model does not draw, or a folder that cannot be
            written to.
    """
    out = arguments.out or arguments.picture.with_name(f"{arguments.picture.stem}-{word}.png")
    writable_folder(out.parent)

    from ..generators import cover
    from ..memory import check_samples
    from .pictures import read_picture

    model, picture, size = model_of(arguments, arguments.dtype), read_picture(arguments.picture), arguments.size
    cell = max(1, pixels_of(model) // factor)
    own = picture.shape[3], picture.shape[2]
    if size is not None:
        check_cells(size, cell)
    width, height = size or (side // cell * cell for side in own)
    if not height or not width:
        got = f"{own[0]}x{own[1]}"
        raise ValueError(f"PICTURE: got {got}; allowed are sides of at least {cell} pixels. Use a larger one.")
    check_format(out, (factor * width, factor * height), "--size" if size else "PICTURE")
    check_samples(1, factor * width, factor * height, 1)

    def fit(whole: Tensor) -> Tensor:
        return cover(whole, width, height) if size else whole[..., :height, :width]

    return Given(model, fit(picture), out, own, fit, _warning(model, (factor * width, factor * height), factor))


def _warning(model: Model, size: Size, factor: int) -> str:
    """That the model draws best at another size than that of the result, and which would be; "" where it does not."""
    if model.side / NEAR <= max(size) <= model.side * NEAR:
        return ""
    width, height = (side // factor for side in scaled(size, model.side, pixels_of(model)))
    return (
        f"the model draws best at {model.side}x{model.side}; got {size[0]}x{size[1]}: things may be repeated or "
        f"lost. Pass --size {width if width == height else f'{width}x{height}'}"
    )


def written(result: Manipulated, given: Given, words: str) -> int:
    """Save the picture, and say what it took, and what speaks against it."""
    from .pictures import to_pil

    picture = to_pil(result.picture[0])
    with replacing(given.out) as partial:
        picture.save(partial)
    kept = "" if result.kept is None else f", {result.kept:.1f} dB {words}"
    print(f"{given.out}: {picture.width}x{picture.height}, {result.evaluations} evaluations{kept}")
    given.warn()
    return 0


def mask_of(path: Path, given: Given, name: str = "--mask") -> Tensor:
    """The mask (1, 1, H, W) in a file, of the size of the picture's file or of the picture; resampled as that was.

    White may change; grey is half of it.

    Raises:
        ValueError: it is no picture, or of another size.
    """
    from .pictures import read_picture

    mask = read_picture(path)
    rows, columns = mask.shape[-2:]
    if (columns, rows) == given.own:
        mask = given.fit(mask)
    height, width = given.picture.shape[-2:]
    rows, columns = mask.shape[-2:]
    if not (height <= rows < height + 8 and width <= columns < width + 8):
        got = f"{columns}x{rows} for a picture of {width}x{height}"
        raise ValueError(f"{name}: got {got}; allowed is its size. Resize it.")
    return mask.mean(dim=1, keepdim=True)[..., :height, :width]
