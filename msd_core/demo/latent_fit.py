"""Is the encoder sound? Fit a neural image to the latent of a scene, and look how near the picture comes.

    min over psi of |E(render(psi)) - E(x)|²

A distillation that pulls the latent does no better than this: an encoder that maps different pictures to one latent
lets it end at any of them. The answer is the PSNR of render(psi) against x, in the picture.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..generators.neural_image import NeuralImage
from .model import DemoModel


def fit_latent(model: DemoModel, picture: Tensor, *, steps: int = 400, lr: float = 5e-3, seed: int = 0) -> float:
    """PSNR in dB of a neural image fitted to the latent of ``picture`` (1, 3, S, S) in [0, 1], equation above.

    Args:
        steps, lr: of Adam.
        seed: of the neural image's first parameters.
    """
    generator = NeuralImage(resolution=picture.shape[-1], seed=seed)
    optimizer = torch.optim.Adam(generator.parameters(), lr)
    target, view = model.encode(picture).detach(), generator.canvas.view
    for _ in range(steps):
        loss = (model.encode(generator.render(view)) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        error = (generator.render(view) - picture).square().mean()
    return float(-10 * error.log10())
