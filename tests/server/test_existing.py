"""The templates of pictures that exist, run as they ship: what they make is what their words say."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
import torch
from comfy_server import Server
from PIL import Image
from torch import Tensor

from msd_core.demo.judge import judge


def pictures(server: Server, entry: dict, node: str) -> list[Tensor]:
    """What a Preview shows, each (3, H, W) in [0, 1]."""
    count = len(entry["outputs"][node]["images"])
    opened = [Image.open(io.BytesIO(server.image(entry, node, which))).convert("RGB") for which in range(count)]
    return [torch.from_numpy(np.array(one)).movedim(-1, 0).float() / 255 for one in opened]


def psnr(a: Tensor, b: Tensor) -> float:
    return float(-10 * (a - b).square().mean().log10())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("edit_by_words", {"10": "8", "13": "11"}),
        ("inpaint", {"21": "11"}),
        ("restore", {"12": "2"}),
    ],
)
def test_what_a_template_makes_is_what_its_words_say(
    server: Server, api_workflow: Callable[[str], dict], name: str, shown: dict[str, str]
) -> None:
    graph = api_workflow(name)
    entry = server.run(graph)
    (before,) = pictures(server, entry, "7")
    for preview, prompt in shown.items():
        for made in pictures(server, entry, preview):
            assert judge(made, graph[prompt]["inputs"]["text"]).accepted
            assert name == "restore" or not judge(before, graph[prompt]["inputs"]["text"]).accepted
    if name == "inpaint":
        stays = torch.ones(128, 128, dtype=torch.bool)
        stays[30:94, 66:126] = False
        for made in pictures(server, entry, "21"):
            assert torch.equal(made[:, stays], before[:, stays])
    if name == "restore":
        (enlarged,), (restored,) = pictures(server, entry, "10"), pictures(server, entry, "12")
        assert psnr(restored, before) > psnr(enlarged, before) + 3
