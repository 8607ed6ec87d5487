"""What is pulled: the end of the chain rule at which a method's gradient acts.

A pull is a function ``(picture, distil) -> (pulled, cotangent)``. picture (B, C, H, W) is what the generator rendered,
with its graph; distil maps x (B, *), detached, to the method's descent gradient on it, of x's shape. The loop sends the
cotangent back from what is pulled to the parameters.

    Pull        x = picture                  pulled = x         cotangent = g_x
    LatentPull  x = encode(picture)          pulled = x         cotangent = g_x
    ImagePull   x = encode(picture)          pulled = picture   cotangent = picture - decode(x - g_x)
    Masked      as the pull within                              mask * cotangent + hold (1 - mask) (pulled - first)
    Measured    picture, as the pull within                     picture - argmin_q |b - A q|^2/s^2 + |q - target|^2/r^2

``pulled(picture)`` is the first of the two alone: what is pulled of another picture, towards the same target
pulled - cotangent.

`LatentPull` is the paper's (Algs. 1 and 2). `ImagePull` is the image-space residual of HiFA (Zhu et al. 2023) on its
own: no backward pass through the encoder, and no picture that merely has the right latent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional as F

from .denoiser import at_least_float32
from .echo import shown
from .finite import check_finite
from .generators.base import Space
from .measurement import Observation
from .validation import as_mask, check_callable, check_instance, check_number, check_positive

Distil: TypeAlias = Callable[[Tensor], Tensor]
Encode: TypeAlias = Callable[[Tensor], Tensor]
PULLS = ("image", "latent")


class Pulling(Protocol):
    """Any of the pulls."""

    @property
    def space(self) -> tuple[Space, ...]:
        """What the generator has to render for it."""
        ...

    def __call__(self, picture: Tensor, distil: Distil) -> tuple[Tensor, Tensor]:
        """What is pulled, with its graph, and its cotangent, of the same shape.

        Raises:
            ValueError: for an encoder or decoder that gives another shape or no gradient; `NonFiniteError` for NaN or
                infinity.
        """
        ...

    def pulled(self, picture: Tensor) -> Tensor:
        """What is pulled of ``picture``, with its graph."""
        ...


@dataclass(frozen=True)
class Pull:
    """x is what the generator renders: a latent, pixels of a model without encoder, or points."""

    space: tuple[Space, ...] = field(default=("image", "latent", "points"), init=False)

    def __call__(self, picture: Tensor, distil: Distil) -> tuple[Tensor, Tensor]:
        """x itself, and g_x."""
        x = self.pulled(picture)
        return x, distil(x.detach())

    def pulled(self, picture: Tensor) -> Tensor:
        """x itself."""
        check_differentiable("generator", picture)
        return at_least_float32(picture)


@dataclass(frozen=True)
class LatentPull:
    """x is the encoded picture, and is pulled through the encoder.

    Args:
        encode: differentiable, image (B, 3, H, W) in [0, 1] to x (B, *).
    """

    encode: Encode
    space: tuple[Space, ...] = field(default=("image",), init=False)

    def __post_init__(self) -> None:
        check_callable("encode", self.encode, "a function from a picture to x")

    def __call__(self, picture: Tensor, distil: Distil) -> tuple[Tensor, Tensor]:
        """x = encode(picture), and g_x."""
        x = self.pulled(picture)
        return x, distil(x.detach())

    def pulled(self, picture: Tensor) -> Tensor:
        """x = encode(picture)."""
        check_differentiable("generator", picture)
        x = _encoded(self.encode, picture)
        check_differentiable("encode", x)
        check_finite("encode", [x], "latent", "Run the encoder in float32.")
        return at_least_float32(x)


@dataclass(frozen=True)
class ImagePull:
    """The picture is pulled towards what x - g_x decodes to.

    Args:
        encode: image (B, 3, H, W) in [0, 1] to x (B, *); not differentiated.
        decode: x (B, *) to image (B, 3, H, W); not differentiated.
    """

    encode: Encode
    decode: Encode
    space: tuple[Space, ...] = field(default=("image",), init=False)

    def __call__(self, picture: Tensor, distil: Distil) -> tuple[Tensor, Tensor]:
        """The picture, and picture - decode(x - g_x)."""
        check_differentiable("generator", picture)
        with torch.no_grad():
            x = _encoded(self.encode, picture)
            check_finite("encode", [x], "latent", "Run the encoder in float32.")
            x = at_least_float32(x).detach()
            target = _tensor("decode", self.decode(x - distil(x))).to(picture)
        check_finite("decode", [target], "picture", "Run the decoder in float32.")
        if target.shape != picture.shape:
            raise ValueError(
                f"decode: gave shape {tuple(target.shape)}, the picture has {tuple(picture.shape)}; allowed is the "
                "picture's. Use the decoder that belongs to the encoder, and a size that it can give."
            )
        return picture, picture.detach() - target

    def pulled(self, picture: Tensor) -> Tensor:
        """The picture."""
        check_differentiable("generator", picture)
        return picture


@dataclass(frozen=True, eq=False)
class Masked:
    """``pull``, confined to where ``mask`` is 1; 0 leaves alone, between scales.

    The mask confines the gradient. A generator whose parameters reach across the picture would still drift outside, a
    little a step: there it is pulled back to what it began with (`held`). At ``hold`` 1 the target is the method's
    within, the first picture without, and their mixture where the mask is between.

    Args:
        pull: any other.
        mask: (H, W), (1, 1, H, W) or (B, 1, H, W) in [0, 1]; averaged down to the size of what is pulled.
        hold: share of the way back to the first picture, from 0, which lets the outside drift, to 1. A generator whose
            places are independent needs none, and `optimize` gives it none.

    Raises:
        ValueError: for a mask of another shape, or with values outside of [0, 1]; for a hold outside of them.
    """

    pull: Pulling
    mask: Tensor
    hold: float = 1.0

    def __post_init__(self) -> None:
        if not hasattr(self.pull, "space"):
            raise ValueError(f"pull: got {shown(self.pull)}; allowed are Pull(), LatentPull, ImagePull. Make one.")
        check_number("hold", self.hold, "1 keeps the outside, 0 lets it drift.", low=0, high=1)
        object.__setattr__(self, "mask", as_mask("mask", self.mask))

    @property
    def space(self) -> tuple[Space, ...]:
        """That of the pull."""
        return self.pull.space

    def __call__(self, picture: Tensor, distil: Distil) -> tuple[Tensor, Tensor]:
        """What the pull gives, its cotangent times the mask."""
        pulled, cotangent = self.pull(picture, distil)
        if pulled.ndim != 4 or self.mask.shape[0] not in (1, pulled.shape[0]):
            raise ValueError(
                f"mask: got {self.mask.shape[0]} of them for what is pulled, {tuple(pulled.shape)}; allowed is one, or "
                "one a row of a picture or latent. Leave it out, or give as many."
            )
        return pulled, cotangent * self._mask_of(cotangent)

    def held(self, pulled: Tensor, cotangent: Tensor, first: Tensor) -> Tensor:
        """The masked ``cotangent`` with what leads back to ``first``, what was pulled before the first step: (B, *)."""
        return cotangent + self.hold * (1 - self._mask_of(cotangent)) * (pulled.detach() - first)

    def _mask_of(self, x: Tensor) -> Tensor:
        """The mask at the size of x (B, C, H, W)."""
        height, width = x.shape[-2:]
        return F.adaptive_avg_pool2d(self.mask.to(x), (height, width))

    def pulled(self, picture: Tensor) -> Tensor:
        """As the pull within."""
        return self.pull.pulled(picture)


@dataclass(frozen=True, eq=False)
class Measured:
    """``pull`` of a picture, towards the nearest one that also agrees with a measurement of it, b = A y + s xi.

    The inner problem of DreamSampler (Kim et al. 2024, Eq. 20), with the pull's target in place of the denoised one;
    without noise what is measured is kept to the last digit, and the model fills in what is not.

    Args:
        pull: `ImagePull`, or `Pull` for a model without encoder.
        observation: b, A and s of a picture in [0, 1].
        error: r, the standard deviation of the target's error, in the picture's units.

    Raises:
        ValueError: for another pull, or an error that is not above 0; when called, for a b that does not fit.
    """

    pull: Pulling
    observation: Observation
    error: float = 0.1

    def __post_init__(self) -> None:
        check_instance("observation", self.observation, Observation, "an Observation. Make one with observe(y, A)")
        check_positive("error", self.error)
        if not isinstance(self.pull, (ImagePull, Pull)):
            raise ValueError(
                f"pull: got {shown(self.pull)} with a measurement of pixels; allowed are ImagePull and Pull. Set "
                "pull='image'."
            )

    @property
    def space(self) -> tuple[Space, ...]:
        """Pictures."""
        return ("image",)

    def __call__(self, picture: Tensor, distil: Distil) -> tuple[Tensor, Tensor]:
        """What the pull gives, with the target that agrees."""
        from .posterior.proximal import Proximal

        pulled, cotangent = self.pull(picture, distil)
        target = pulled.detach() - cotangent
        level = torch.ones(len(target), 1, 1, 1, dtype=target.dtype, device=target.device)
        return pulled, pulled.detach() - Proximal(error=self.error)(target, level, lambda z, _: z, self.observation)

    def pulled(self, picture: Tensor) -> Tensor:
        """As the pull within."""
        return self.pull.pulled(picture)


def _tensor(name: str, value: Any) -> Tensor:  # noqa: ANN401 - whatever was returned
    """``value``, what ``name`` returned, if it is a floating-point tensor."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        raise ValueError(f"{name}: gave {shown(value)}; allowed is a floating-point tensor. Return one.")
    return value


def _encoded(encode: Encode, picture: Tensor) -> Tensor:
    return _tensor("encode", encode(picture))


def check_differentiable(name: str, value: Tensor) -> None:
    """Refuse an output without a graph."""
    if not _tensor(name, value).requires_grad:
        raise ValueError(
            f"{name}: x has no gradient with respect to the generator's parameters; allowed is a differentiable map. "
            "Remove no_grad, detach or inference mode from it."
        )
