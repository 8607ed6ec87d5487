"""The landscape of a vector field that is known on a grid: the potential whose gradient fits it best.

A distillation method gives a vector at every point, not a loss. Its loss landscape is the u that minimises

    sum over horizontal edges w (du/dx - f_x)^2 + sum over vertical edges w (du/dy - f_y)^2,

du the difference of the two nodes of an edge, f the average of the field at these nodes, and w the edge's share of the
area: 1, and 1/2 on the border. Both are of second order in the spacing, for fields that are no gradient too. The normal
equations are Poisson's with Neumann boundary, solved exactly by the cosine transform of type I (scipy.fft), which
diagonalises the second difference with half cells at the ends. The exact mean shift is a gradient, and so is what SDS
expects of an exact denoiser; an estimator's field, or a learned denoiser's, need not be. `residual` is the share of the
field that no landscape shows.

The potential increases along the field. For a loss, which a descent direction decreases, pass minus the direction.

Layout: field[i, j] is the vector (f_x, f_y) at x = xmin + j dx, y = ymin + i dy; the first and last nodes lie on the
extent. So row 0 is the lowest y: matplotlib's ``origin="lower"``, and what `grid` builds.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import dctn, idctn
from torch import Tensor

from ..echo import shown
from ..validation import as_floating, check_choice, check_count, check_same_shape, is_number

Extent = tuple[float, float, float, float]
ZEROS = ("mean", "max", "min")


def grid(extent: Extent, shape: tuple[int, int]) -> Tensor:
    """The nodes (x, y) of a regular grid, shape (H, W, 2), float64; flatten the first two for a batch of points.

    Args:
        extent: (xmin, xmax, ymin, ymax), both ends included.
        shape: (H, W), at least 2 each.

    Raises:
        ValueError: for an empty extent or fewer than two nodes a side.
    """
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise ValueError(f"shape: got {shown(shape)}; allowed is (H, W), two whole numbers. Pass a pair.")
    check_count("shape[0]", shape[0], minimum=2)
    check_count("shape[1]", shape[1], minimum=2)
    xmin, xmax, ymin, ymax = _check_extent(extent)
    y = torch.linspace(ymin, ymax, shape[0], dtype=torch.float64)
    x = torch.linspace(xmin, xmax, shape[1], dtype=torch.float64)
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=2)


def integrate_gradient(field: Tensor, extent: Extent, *, zero: str = "mean") -> Tensor:
    """The potential (H, W) whose gradient is closest to ``field``, in the field's dtype.

    Args:
        field: vectors (f_x, f_y), shape (H, W, 2), H and W at least 2.
        extent: (xmin, xmax, ymin, ymax) of the nodes.
        zero: what of the potential is 0, since a constant is free: its "mean", "max" or "min".

    Raises:
        ValueError: for another shape, entries that are not finite, an empty extent, or another ``zero``.
    """
    check_choice("zero", zero, ZEROS)
    field = as_floating("field", field)
    f, dx, dy = _check_field(field, extent)
    horizontal, vertical = _on_edges(f)
    height, width = f.shape[0], f.shape[1]
    divergence = np.zeros((height, width))  # minus; the transposed differences over the share of the area at each node
    divergence[:, 1:] += horizontal / (dx * _share(width)[1:])
    divergence[:, :-1] -= horizontal / (dx * _share(width)[:-1])
    divergence[1:] += vertical / (dy * _share(height)[1:, None])
    divergence[:-1] -= vertical / (dy * _share(height)[:-1, None])
    eigenvalues = _second_difference(height)[:, None] / dy**2 + _second_difference(width)[None, :] / dx**2
    eigenvalues[0, 0] = 1.0  # the constant, on which the divergence vanishes
    spectrum = np.asarray(dctn(divergence, type=1)) / eigenvalues
    spectrum[0, 0] = 0.0
    potential = np.asarray(idctn(spectrum, type=1))
    potential -= {"mean": np.mean, "max": np.max, "min": np.min}[zero](potential)
    return torch.from_numpy(potential).to(field)


def residual(field: Tensor, extent: Extent, potential: Tensor | None = None) -> float:
    """Share of the field's squared norm over the extent that ``potential`` does not explain.

    For the best potential it is in 0..1: 0 for a gradient, 1 for a flow that circulates inside the extent. What a
    rotation does across the border counts as gradient (a rigid rotation of a square has .8436). 0 for a zero field.

    Args:
        field: shape (H, W, 2).
        extent: (xmin, xmax, ymin, ymax).
        potential: shape (H, W); default that of `integrate_gradient`.

    Raises:
        ValueError: as `integrate_gradient`, or for a potential of another shape.
    """
    field = as_floating("field", field)
    f, dx, dy = _check_field(field, extent)
    if potential is None:
        potential = integrate_gradient(field.double(), extent)
    potential = as_floating("potential", potential)
    check_same_shape("potential", potential, "field[..., 0]", field[..., 0])
    u = potential.detach().double().cpu().numpy()
    horizontal, vertical = _on_edges(f)
    whole = _energy(horizontal, vertical)
    left = _energy(np.diff(u, axis=1) / dx - horizontal, np.diff(u, axis=0) / dy - vertical)
    return left / whole if whole > 0 else 0.0


def _on_edges(f: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """f_x on the horizontal edges (H, W - 1) and f_y on the vertical ones (H - 1, W)."""
    return (f[:, 1:, 0] + f[:, :-1, 0]) / 2, (f[1:, :, 1] + f[:-1, :, 1]) / 2


def _energy(horizontal: NDArray[np.float64], vertical: NDArray[np.float64]) -> float:
    """Sum of squares over the edges, weighted by their share of the area."""
    rows, columns = _share(horizontal.shape[0])[:, None], _share(vertical.shape[1])
    return float((np.square(horizontal) * rows).sum() + (np.square(vertical) * columns).sum())


def _share(n: int) -> NDArray[np.float64]:
    """Length that belongs to each of n nodes on a line, in spacings: half at the ends."""
    share = np.ones(n)
    share[[0, -1]] = 0.5
    return share


def _second_difference(n: int) -> NDArray[np.float64]:
    """Eigenvalues of minus the second difference with half cells at the ends, in the order of the transform."""
    return 2 - 2 * np.cos(np.pi * np.arange(n) / (n - 1))


def _check_extent(extent: Extent) -> Extent:
    """Refuse an extent that is not four finite numbers, or is empty."""
    values = list(extent) if isinstance(extent, (tuple, list)) else []
    numbers = len(values) == 4 and all(is_number(value) and math.isfinite(value) for value in values)
    if not numbers or values[0] >= values[1] or values[2] >= values[3]:
        raise ValueError(
            f"extent: got {shown(extent)}; allowed is (xmin, xmax, ymin, ymax) with xmin < xmax and ymin < ymax. "
            "Order it so."
        )
    return extent


def _check_field(field: Tensor, extent: Extent) -> tuple[NDArray[np.float64], float, float]:
    """The field in float64 and the spacings dx and dy."""
    field = as_floating("field", field)
    if field.ndim != 3 or field.shape[2] != 2 or min(field.shape[:2]) < 2 or not bool(torch.isfinite(field).all()):
        raise ValueError(
            f"field: got shape {tuple(field.shape)}, or entries that are not finite; allowed are finite vectors "
            "(H, W, 2) with H, W >= 2. Evaluate it on the nodes of `grid`."
        )
    xmin, xmax, ymin, ymax = _check_extent(extent)
    height, width = field.shape[:2]
    return field.detach().double().cpu().numpy(), (xmax - xmin) / (width - 1), (ymax - ymin) / (height - 1)
