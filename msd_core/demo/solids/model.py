"""The model of the solid world: the demo model's networks, smaller, under words of its own.

A file holds all three networks, in half precision; its autoencoder is the demo model's, trained further on solids.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from ...echo import cut, shown
from ...model import SHIPPED
from ..model import CONFIGS, DemoModel
from ..text import CONTEXT_LENGTH, END, START, TEXT_CONFIG, TextEncoder, words_of
from ..unet import UNET_CONFIG, UNet
from .shapes import SOLIDS
from .world import INKS, SIZES

VOCABULARY: tuple[str, ...] = (
    *(START, END, "a", "an", "with", "back", "on", "background"),
    *("front", "right", "left", "side", "overhead", "view"),
    *SIZES,
    *INKS,
    *SOLIDS,
)
SOLID_MODEL_PATH = SHIPPED["solids"]
TEXT = {**TEXT_CONFIG, "vocab_size": len(VOCABULARY), "num_hidden_layers": 2, "intermediate_size": 192}
UNET = {**UNET_CONFIG, "model_channels": 32, "channel_mult": [2, 3, 3]}


def token_ids(prompt: str) -> list[int]:
    """The word numbers of ``prompt``: start, words, end; not padded.

    Raises:
        ValueError: a word is not in the vocabulary, or there are more than fit.
    """
    words = words_of(prompt)
    unknown = [word for word in words if word not in VOCABULARY[2:]]
    if unknown:
        raise ValueError(
            f"prompt: {shown(prompt)} has words that the solid world does not know: {cut(', '.join(unknown))}; it "
            f"knows {', '.join(VOCABULARY[2:])}. Write e.g. 'a large red cube with a blue back on a white background, "
            "{view}'"
        )
    if len(words) > CONTEXT_LENGTH - 2:
        raise ValueError(f"prompt: {len(words)} words; allowed are {CONTEXT_LENGTH - 2}. Shorten {shown(prompt)}")
    return [0, *map(VOCABULARY.index, words), 1]


def tokenize(prompts: Sequence[str]) -> Tensor:
    """Word numbers (B, CONTEXT_LENGTH), padded with the end token; errors of `token_ids`."""
    rows = [token_ids(prompt) for prompt in prompts]
    return torch.tensor([row + [1] * (CONTEXT_LENGTH - len(row)) for row in rows])


class SolidModel(DemoModel):
    """As `DemoModel`, for captions of `Scene`."""

    configs: ClassVar = {**CONFIGS, "text": TEXT, "unet": UNET}
    vocabulary: ClassVar = VOCABULARY
    token_ids: ClassVar = staticmethod(token_ids)
    format: ClassVar = "msd-solid-model", "1"
    remedy: ClassVar = (
        f"Pass the {SOLID_MODEL_PATH.name} of the project, or train one with `python -m msd_core.demo.solids.train`."
    )

    def __init__(self) -> None:
        super().__init__()
        self.text, self.unet = TextEncoder(TEXT), UNet(UNET)
        self.float()

    @torch.no_grad()
    def context(self, prompts: Sequence[str]) -> Tensor:
        """Encoded ``prompts``, (B, CONTEXT_LENGTH, context_dim)."""
        return self.text(tokenize(prompts).to(self.device))


@cache
def load_solid_model(path: str | Path | None = None) -> SolidModel:
    """The model of the solid world, ready to use; ``path`` defaults to the project's own file."""
    model = SolidModel.random(0)
    assert isinstance(model, SolidModel)  # noqa: S101 - a class method
    model.load(path or SOLID_MODEL_PATH)
    return model.eval().requires_grad_(False)
