"""A small network that learns a noised density in the plane: a log-density whose gradient is the score.

With u = z / sqrt(sigma^2 + sigma_data^2), input [u, ln(sigma)/4, 1] and y the output of an MLP (1 + ``layers`` linear
maps without bias, rows of unit length, SiLU/.596 between them, so that each map keeps its input's magnitude),

    log p(z; sigma) = gain mean(y^2) / sigma - |u|^2 / 2 + constant
    score(z; sigma) = grad_z log p = (J^T y 2 gain / (width sigma) - u) / sqrt(sigma^2 + sigma_data^2),  J = dy/du
    D(z; sigma)     = z + sigma^2 score

(Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of Itself", the toy example). With gain = 0, where
training starts, this is the exact answer for data from N(0, sigma_data^2); towards large sigma the gain's term falls
by 1/sigma against the other, so that D tends to that Gaussian's denoiser, z sigma_data^2/(sigma^2 + sigma_data^2).

J^T y is a reverse pass written in tensor operations: the score then costs no graph where none is wanted, and training
differentiates once, not twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import silu

from ...denoiser import Sigma, at_least_float32, expand_sigma
from ...validation import as_floating, check_count, check_positive

_SILU_RMS = 0.596  # root mean square of SiLU of a standard normal number
_CHUNK = 2048  # rows at once: the activations of one layer stay in the processor's cache


class _SlopeTimes(torch.autograd.Function):
    """``gradient * silu'(h)``, once differentiable in both: torch's own has no derivative."""

    @staticmethod
    def forward(ctx, gradient: Tensor, h: Tensor) -> Tensor:  # noqa: ANN001 - torch's context
        ctx.save_for_backward(gradient, h)
        return torch.ops.aten.silu_backward(gradient, h)

    @staticmethod
    @once_differentiable
    def backward(ctx, *outer: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN001 # pyright: ignore[reportIncompatibleMethodOverride]
        gradient, h = ctx.saved_tensors
        gate = h.sigmoid()
        bend = torch.addcmul(h, h, gate, value=-2).add_(2)
        bend.mul_(gate.addcmul_(gate, gate, value=-1))  # silu'' = s (1 - s) (2 + h (1 - 2 s)), s = sigmoid(h)
        return torch.ops.aten.silu_backward(outer[0], h), bend.mul_(gradient).mul_(outer[0])


def _slope_times(gradient: Tensor, h: Tensor) -> Tensor:
    return torch.as_tensor(_SlopeTimes.apply(gradient, h))


def unit_rows(weight: Tensor) -> Tensor:
    """``weight`` (out, in) with every row divided by its length: independent inputs of rms 1 give outputs of rms 1."""
    return weight / weight.norm(dim=1, keepdim=True)


class ToyNetwork(nn.Module):
    """The network above, with random weights and gain 0.

    Args:
        space: numbers per point, D.
        dim: width.
        layers: linear maps after the first.
        sigma_data: standard deviation of the data that the network is to expect.
        rng: of the initial weights, standard normal.

    Raises:
        ValueError: for sizes that are not whole numbers of at least 1, or ``sigma_data`` not positive.
    """

    def __init__(
        self,
        space: int = 2,
        dim: int = 64,
        layers: int = 4,
        sigma_data: float = 0.5,
        *,
        rng: torch.Generator,
    ) -> None:
        super().__init__()
        for name, value in (("space", space), ("dim", dim), ("layers", layers)):
            check_count(name, value)
        check_positive("sigma_data", sigma_data)
        self.space, self.sigma_data = space, sigma_data
        widths = [space + 2] + [dim] * layers
        self.weights = nn.ParameterList(torch.randn(dim, width, generator=rng, dtype=torch.float32) for width in widths)
        self.gain = nn.Parameter(torch.zeros((), dtype=torch.float32))

    def log_density(self, z: Tensor, sigma: Sigma) -> Tensor:
        """The unnormalised log-density (B,) of points ``z`` (B, D) at levels ``sigma`` > 0, a number or (B,)."""
        rows, level = self._rows(z, sigma)
        u, features = self._features(rows, level)
        *_, y = self._forward(features, self._maps())
        return self.gain * y.square().mean(dim=1) / level[:, 0] - u.square().sum(dim=1) / 2

    def score(self, z: Tensor, sigma: Sigma) -> Tensor:
        """Gradient of `log_density` in ``z``, shape of ``z`` (B, *), at least float32.

        Differentiable, once, in ``z`` and in the parameters; under `torch.no_grad` nothing is kept.

        Raises:
            ValueError: if a row of ``z`` does not have D numbers, or a level is not > 0.
        """
        z = as_floating("z", z)
        rows, level = self._rows(z, sigma)
        maps = self._maps()
        pairs = zip(rows.split(_CHUNK), level.split(_CHUNK), strict=True)
        parts = [self._score(part, at, maps) for part, at in pairs]
        return torch.cat(parts).reshape(z.shape).to(at_least_float32(z).dtype)

    def _score(self, rows: Tensor, level: Tensor, maps: list[Tensor]) -> Tensor:
        u, features = self._features(rows, level)
        *hidden, y = self._forward(features, maps)
        back = y
        for weight, h in zip(maps[:0:-1], hidden[::-1], strict=True):
            back = _slope_times(back @ weight, h)
        pull = back @ maps[0][:, : self.space]
        return (pull * (2 * self.gain / (y.shape[1] * level)) - u) / self._spread(level)

    def _forward(self, features: Tensor, maps: list[Tensor]) -> list[Tensor]:
        """What each map returns, the last of them y."""
        values = [features @ maps[0].T]
        for weight in maps[1:]:
            values.append(silu(values[-1]) @ weight.T)
        return values

    def _maps(self) -> list[Tensor]:
        """The matrices: rows of unit length, and after the first one the nonlinearity's scale."""
        first, *others = (unit_rows(weight) for weight in self.weights)
        return [first, *(weight / _SILU_RMS for weight in others)]

    def _features(self, rows: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        u = rows / self._spread(level)
        return u, torch.cat([u, level.log() / 4, torch.ones_like(level)], dim=1)

    def _spread(self, level: Tensor) -> Tensor:
        return (level**2 + self.sigma_data**2).sqrt()

    def _rows(self, z: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        """``z`` as rows (B, D) and sigma as (B, 1), both in the dtype of the parameters."""
        z = as_floating("z", z)
        numbers = z[0].numel() if z.ndim > 1 and len(z) else 0
        if numbers != self.space:
            raise ValueError(
                f"z: got shape {tuple(z.shape)}; allowed are B >= 1 rows of {self.space} numbers each. "
                f"Reshape it to (B, {self.space})."
            )
        rows = z.reshape(len(z), numbers).to(self.gain.dtype)
        level = expand_sigma(sigma, rows).to(rows.dtype)
        if not bool((level > 0).all()):
            raise ValueError(
                f"sigma: got {float(level.min())}; allowed is > 0: the network sees its logarithm. "
                "End the schedule's evaluations at its last non-zero level."
            )
        return rows, level


def restore_network(
    tensors: Mapping[str, Tensor], *, space: int, dim: int, layers: int, sigma_data: float
) -> ToyNetwork:
    """A network of the given shape with the parameters ``tensors``, which do not ask for gradients.

    Raises:
        ValueError: if names or shapes of ``tensors`` are not those of such a network.
    """
    network = ToyNetwork(space, dim, layers, sigma_data, rng=torch.Generator())
    try:
        network.load_state_dict(dict(tensors))
    except RuntimeError as error:
        raise ValueError(
            f"tensors: not the parameters of a ToyNetwork with dim {dim}, layers {layers} ({error}). "
            "Pass the settings it was trained with."
        ) from error
    return network.requires_grad_(False)


@dataclass(frozen=True, eq=False)
class ToyDenoiser:
    """A `ToyNetwork` as a denoiser: ``D(z; sigma) = z + sigma^2 score(z; sigma)``.

    A graph, good for one derivative, is kept only where ``z`` asks for gradients.

    Args:
        network: trained, its parameters without ``requires_grad`` (as `toy_network` makes it).
        sigma_min, sigma_max: the levels between which it is meant to be sampled.
        box: opposite corners (D,) of a box that D is clipped to, or None. E[y | z] never leaves the hull of the data
            (of a mixture: hardly, beyond a few deviations), but a network does, far from what it was trained on: a
            point there is thrown off for good. (Ho et al. 2020 clip to the range of pictures, `clip_denoised` in their
            code.)
    """

    network: ToyNetwork
    sigma_min: float = 0.002
    sigma_max: float = 5.0
    box: tuple[Tensor, Tensor] | None = None

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        """E[y | z], shape and dtype of ``z`` (B, *); half precision comes back as float32.

        Raises:
            ValueError: if a row of ``z`` does not have the network's D numbers, or a level is not > 0.
        """
        z = as_floating("z", z)
        with torch.set_grad_enabled(z.requires_grad and torch.is_grad_enabled()):
            score = self.network.score(z, sigma)
        denoised = at_least_float32(z) + expand_sigma(sigma, z) ** 2 * score
        if self.box is None:
            return denoised
        low, high = (corner.to(denoised) for corner in self.box)
        return denoised.flatten(1).clamp(low, high).reshape(denoised.shape)
