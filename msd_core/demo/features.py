"""Feature spaces for distances between sets of pictures, none of which needs weights from elsewhere.

- `convolutions`: a fixed random network (weights from a stated seed), averaged over the picture. Random features keep
  neighbourhoods (Saxe et al. 2011, "On random weights and unsupervised feature learning"), and anyone can make them.
- `measurements`: what the judge measures of each picture against its caption.
- `latents`: the demo autoencoder's latents, averaged over patches.

Conventions: pictures are (B, 3, H, W) in [0, 1]; features are (B, D), float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from .grammar import Scene
from .judge import Verdict, judge
from .model import DemoModel, load_demo_model
from .scenes import SIDE

Features = Callable[[Tensor, Sequence[Scene]], Tensor]
"""Pictures (B, 3, H, W) and the scenes they should show, to features (B, D)."""

CONVOLUTION_SEED = 0
WIDTHS = (16, 16, 32)


def convolutions(pictures: Tensor, scenes: Sequence[Scene] = ()) -> Tensor:
    """Averages of a random network's three layers (5×5, stride 2, ReLU; He initialised from CONVOLUTION_SEED): (B, 64).

    Pictures are brought to SIDE × SIDE first. ``scenes`` are not looked at.
    """
    generator = torch.Generator().manual_seed(CONVOLUTION_SEED)
    h, width, means = F.interpolate(pictures.float(), (SIDE, SIDE), mode="area"), 3, []
    for wider in WIDTHS:
        weight = torch.randn(wider, width, 5, 5, generator=generator) * math.sqrt(2 / (25 * width))
        h, width = F.relu(F.conv2d(h - h.mean(dim=(1, 2, 3), keepdim=True), weight, stride=2, padding=2)), wider
        means.append(h.mean(dim=(2, 3)))
    return torch.cat(means, dim=1).double()


def measured(verdicts: Sequence[Verdict]) -> Tensor:
    """The judge's measurements of each verdict, averaged over its things: (B, 9).

    Own score, best rival's, colour share, spill, offset from the told place to the right and down, logarithm of the
    radius over the told one, stray share, and whether the ground is right.
    """
    rows = []
    for verdict in verdicts:
        things = [
            (t.score, t.rival, t.colour_share, t.spill, t.x - x, t.y - y, math.log(t.radius / r))
            for t, (x, y, r) in zip(verdict.things, verdict.scene.layout(), strict=True)
        ]
        means = [sum(column) / len(things) for column in zip(*things, strict=True)]
        rows.append([*means, verdict.stray, float(verdict.background_right)])
    return torch.tensor(rows, dtype=torch.float64)


def measurements(pictures: Tensor, scenes: Sequence[Scene]) -> Tensor:
    """`measured` of the judge's verdicts on ``pictures`` (B, 3, H, W) against B ``scenes``: (B, 9)."""
    return measured([judge(picture, scene) for picture, scene in zip(pictures, scenes, strict=True)])


@torch.no_grad()
def latents(pictures: Tensor, scenes: Sequence[Scene] = (), model: DemoModel | None = None) -> Tensor:
    """The demo autoencoder's latents averaged over a 4 × 4 grid: (B, 64). ``scenes`` are not looked at."""
    encode = (model or load_demo_model()).encode
    codes = torch.cat([encode(some) for some in pictures.split(16)])
    return F.adaptive_avg_pool2d(codes, 4).flatten(1).double()


FEATURES: dict[str, Features] = {"convolutions": convolutions, "measurements": measurements, "latents": latents}
"""The feature spaces by name."""
