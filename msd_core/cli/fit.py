"""Fit a generator to a picture: a picture file as a network, drawn at any size, or the start of a run."""

from __future__ import annotations

import argparse

from .arguments import any_size, check_cells, count_to, file, path, seed, writable_folder

STEPS = 1_000_000
HELP = "fit a generator to a picture"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd fit`."""
    parser.add_argument("picture", type=file, metavar="PICTURE", help="a PNG or a JPEG")
    parser.add_argument("--out", type=path, help="the generator's file (default: PICTURE with the ending .safetensors)")
    parser.add_argument("--generator", default="fourier", help="its kind (default: fourier)")
    parser.add_argument("--size", type=any_size, help="WIDTHxHEIGHT that it is fitted at (default: the picture's)")
    parser.add_argument("--steps", type=count_to(STEPS), default=300, help="updates at most (default: 300)")
    parser.add_argument("--seed", type=seed, default=0, help="of the generator (default: 0)")
    parser.add_argument("--model", type=file, help="demo model's file, whose latent a latent generator is of")

    from .flags import add_generator_flags

    add_generator_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Read, fit under a bar, save; the old file stays until the new one is whole."""
    out = arguments.out or arguments.picture.with_suffix(".safetensors")
    if out.suffix != ".safetensors":
        raise ValueError(f"--out: got {out.name!r}; allowed is a name that ends in .safetensors. Add it.")
    writable_folder(out.parent)

    from tqdm import tqdm

    from ..demo.model import load_demo_model
    from ..generators import GENERATORS, cover, fit, generator_for_size, save_generator
    from ..generators.registry import checked_options
    from ..memory import check_distillation
    from ..validation import check_choice
    from .flags import generator_flags, given
    from .pictures import read_picture
    from .settings import by_flag

    check_choice("--generator", arguments.generator, GENERATORS)
    try:
        options = checked_options(arguments.generator, given(arguments, generator_flags()))
    except ValueError as error:
        raise ValueError(by_flag(str(error))) from error
    picture = read_picture(arguments.picture)
    width, height = arguments.size or (picture.shape[3], picture.shape[2])
    latent = arguments.generator == "latent"
    model = load_demo_model(arguments.model) if latent else None
    if model is not None:
        check_cells((width, height), model.cell)
    sizes = {"channels": model.channels, "cell": model.cell} if model is not None else {}
    check_distillation(arguments.generator, width, height, model, options=options)
    generator = generator_for_size(arguments.generator, width, height, seed=arguments.seed, **sizes, **options)
    encode = None if model is None else model.encode
    last, bar = None, tqdm(total=arguments.steps, desc="fit")
    with bar:
        for last in fit(generator, cover(picture, width, height), steps=arguments.steps, encode=encode):
            bar.update(last.step - bar.n)
    assert last is not None  # noqa: S101 - a fit yields at least once
    save_generator(last.generator, out)
    print(f"{out}: {width}x{height}" + ("" if last.psnr is None else f", {last.psnr:.1f} dB"))
    return 0
