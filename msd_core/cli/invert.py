"""The noise that a picture would have come from, and the picture that comes back from it: which inversion to trust."""

from __future__ import annotations

import argparse

from .arguments import file, number, writable_folder
from .changed import add_shared, mask_of, prepared
from .models import levels

HELP = "invert a picture to noise, and back"
INVERSION, WORD = "implicit", "returned"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd invert`."""
    from ..inversion import INVERSIONS

    add_shared(parser, 50, WORD)
    parser.add_argument("--prompt", default="", help="what it shows (default: nothing)")
    parser.add_argument("--cfg", type=number, default=1.0, help="guidance scale; 1 is off, and accurate (default: 1)")
    names = ", ".join(INVERSIONS)
    parser.add_argument("--inversion", default=INVERSION, help=f"{names} (default: {INVERSION})")
    parser.add_argument("--mask", type=file, help="picture that is white where it is inverted; the rest stays")
    parser.add_argument("--noise", type=file, help="safetensors file for the noisy latent and its levels")


def run(arguments: argparse.Namespace) -> int:
    """Invert, walk back, save the picture that came back; say how well it went."""
    import torch

    from ..atomic import replacing
    from ..inversion import INVERSIONS, invert
    from ..inversion.resample import resample, round_trip_psnr
    from ..inversion.words import described
    from ..manipulation.result import cells_of, decoded, encoded, fitting
    from ..tensorfile import write_tensors
    from .pictures import to_pil

    inversion = INVERSIONS.made("--inversion", arguments.inversion)
    given = prepared(arguments, WORD)
    if arguments.noise is not None:
        writable_folder(arguments.noise.parent, "--noise")
    model, picture, out = given.model, given.picture, given.out
    denoiser = model.denoiser(arguments.prompt, "", arguments.cfg)
    sigmas = levels("normal", arguments.steps, model, denoiser)
    rng, mask = torch.Generator().manual_seed(arguments.seed), None
    if arguments.mask is not None:
        mask = cells_of((mask_of(arguments.mask, given) > 0.5).float(), model.cell, 0)
        if not bool(mask.any()):
            raise ValueError(
                "--mask: got a picture without white; allowed is one that is white where to invert. Paint it."
            )
    with torch.no_grad():
        x = encoded(model, fitting(model, picture))
        trajectory = invert(x, denoiser, sigmas, inversion, rng, mask)
        back = resample(trajectory, denoiser)
        returned, own = (decoded(model, latent) for latent in (back, x))
    with replacing(out) as partial:
        to_pil(returned[0]).save(partial)
    if arguments.noise is not None:
        told = {"inversion": arguments.inversion, "prompt": arguments.prompt, "cfg": f"{arguments.cfg:g}"}
        tensors = {"noise": trajectory.states[-1].contiguous(), "sigmas": trajectory.sigmas.flip(0).contiguous()}
        write_tensors(arguments.noise, tensors, "msd-noise", "1", told)
    print(described(trajectory, back))
    psnr = float(round_trip_psnr(own, returned, peak=1.0))
    print(f"{out}: {picture.shape[3]}x{picture.shape[2]}, {psnr:.1f} dB against what the autoencoder alone gives back")
    given.warn()
    return 0
