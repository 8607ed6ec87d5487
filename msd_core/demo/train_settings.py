"""What a training run of the demo model is made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .scenes import SIDE


@dataclass(frozen=True)
class TrainSettings:
    """Settings of both stages; the defaults are those of the model that ships.

    Args:
        seed: all that is random follows from it and a step's number.
        side: pixels a side of the pictures.
        autoencoder_steps, autoencoder_batch: first stage, on crops of half the side.
        whole_steps, whole_batch: its end, on whole pictures; one learning rate runs through both.
        autoencoder_lr, kl_weight, edge_weight: its rate, the weight of its KL term, and how much more a pixel at an
            edge counts than one on even ground.
        scenes, shares: how many scenes the second stage begins with, and the shares of one, two and three things.
        pool, refresh, later_shares: every ``refresh`` steps a block of new scenes joins them, up to ``pool``, and then
            replaces the oldest; 0 leaves the first ones alone.
        steps, batch, lr, decay_fraction: second stage; its rate falls to zero over the last share of the steps.
        min_snr: levels count min(SNR, min_snr)/SNR (Hang et al. 2023, for predicted noise); infinity counts all alike.
        dropout: share of captions replaced by the empty one.
        ema: rate of the average of the weights that becomes the model.
        dream: DREAM's exponent; infinity is training without it.
        save_every: steps between two saves.
    """

    seed: int = 0
    side: int = SIDE
    autoencoder_steps: int = 10_000
    autoencoder_batch: int = 12
    whole_steps: int = 2_000
    whole_batch: int = 4
    autoencoder_lr: float = 1.2e-3
    kl_weight: float = 1e-4
    edge_weight: float = 4.0
    scenes: int = 8_192
    shares: tuple[float, float, float] = (0.5, 0.35, 0.15)
    pool: int = 32_768
    refresh: int = 8
    later_shares: tuple[float, float, float] = (0.35, 0.4, 0.25)
    steps: int = 12_000
    batch: int = 64
    lr: float = 1e-3
    decay_fraction: float = 0.3
    min_snr: float = 5.0
    dropout: float = 0.1
    ema: float = 0.999
    dream: float = math.inf
    save_every: int = 200

    def __post_init__(self) -> None:
        if self.dream != math.inf:
            from ..research.dream import check_dream

            check_dream(self.dream)
