"""Tensors across the border of the host's inference mode.

A prompt runs under `torch.inference_mode()`. The network is evaluated in that mode, our loops outside it; whatever
crosses over is cloned.
"""

from __future__ import annotations

import torch
from torch import Tensor


def grad_mode() -> torch.inference_mode:
    """Context in which tensors are ordinary ones and autograd works, inside a node."""
    return torch.inference_mode(False)


def owned(tensor: Tensor, device: torch.device | None = None) -> Tensor:
    """A private float32 copy of a host tensor that autograd accepts. Call inside `grad_mode()`."""
    return tensor.detach().to(device=device, dtype=torch.float32, copy=True)
