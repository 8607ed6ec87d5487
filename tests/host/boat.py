"""A drawn picture that tests change by words, the hole around one of its things, and how near two pictures are."""

from __future__ import annotations

import torch
from msd_pack.msd_core.demo.grammar import parse
from msd_pack.msd_core.demo.scenes import draw
from torch import Tensor

BEFORE, AFTER = "a red boat left of a yellow house at sea", "a red boat left of a green fir at sea"
PICTURE = draw([parse(BEFORE)], 128)
HOLE = torch.zeros(1, 128, 128)
HOLE[:, 30:92, 68:126] = 1


def image_of(picture: Tensor) -> Tensor:
    return picture.movedim(1, -1)


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())
