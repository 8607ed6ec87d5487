"""What the commands share that change a picture: `edit`, `inpaint` and `restore`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import replacing
from .arguments import check_format, count, file, picture_file, seed, writable_folder

if TYPE_CHECKING:
    from torch import Tensor

    from ..demo.model import DemoModel
    from ..manipulation import Manipulated


def add_shared(parser: argparse.ArgumentParser, steps: int) -> None:
    """The picture, where the result goes, the steps, the seed and the model."""
    parser.add_argument("picture", type=file, metavar="PICTURE", help="a PNG or a JPEG")
    parser.add_argument("--out", type=picture_file, help="the result's file (default: PICTURE-COMMAND.png)")
    parser.add_argument("--steps", type=count, default=steps, help=f"of the sampler (default: {steps})")
    parser.add_argument("--seed", type=seed, default=0, help="of the noise (default: 0)")
    parser.add_argument("--model", type=file, help="demo model's file (default: the one that ships)")


def prepared(arguments: argparse.Namespace, command: str, factor: int = 1) -> tuple[DemoModel, Tensor, Path]:
    """The model, the picture (1, 3, H, W), and the file of the result.

    The picture is cut so that one ``factor`` times larger is made of whole cells of the model.

    Raises:
        ValueError: for a file that is no picture, or a folder that cannot be written to.
    """
    out = arguments.out or arguments.picture.with_name(f"{arguments.picture.stem}-{command}.png")
    writable_folder(out.parent)

    from ..demo.model import load_demo_model
    from ..memory import check_samples
    from .pictures import read_picture

    model, picture = load_demo_model(arguments.model), read_picture(arguments.picture)
    cell = max(1, model.cell // factor)
    height, width = (side // cell * cell for side in picture.shape[-2:])
    if not height or not width:
        got = f"{picture.shape[3]}x{picture.shape[2]}"
        raise ValueError(f"PICTURE: got {got}; allowed are sides of at least {cell} pixels. Use a larger one.")
    check_format(out, (factor * width, factor * height), "PICTURE")
    check_samples(1, factor * width, factor * height, 1)
    return model, picture[..., :height, :width], out


def written(result: Manipulated, out: Path, words: str) -> int:
    """Save the picture, and say what it took."""
    from .pictures import to_pil

    picture = to_pil(result.picture[0])
    with replacing(out) as partial:
        picture.save(partial)
    kept = "" if result.kept is None else f", {result.kept:.1f} dB {words}"
    print(f"{out}: {picture.width}x{picture.height}, {result.evaluations} evaluations{kept}")
    return 0


def mask_of(path: Path, picture: Tensor, name: str = "--mask") -> Tensor:
    """The mask (1, 1, H, W) in a file: white may change; grey is half of it.

    Raises:
        ValueError: it is no picture, or of another size.
    """
    from .pictures import read_picture

    mask = read_picture(path).mean(dim=1, keepdim=True)
    height, width = picture.shape[-2:]
    rows, columns = mask.shape[-2:]
    if not (height <= rows < height + 8 and width <= columns < width + 8):
        got = f"{columns}x{rows} for a picture of {width}x{height}"
        raise ValueError(f"{name}: got {got}; allowed is its size. Resize it.")
    return mask[..., :height, :width]
