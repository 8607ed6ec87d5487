"""What a picture, a step and a render take in memory, and whether that much is there, before any of it is taken.

    needed = bytes a pixel * pixels (+ what the backward pass keeps) (+ the autoencoder)      refused if > available

The constants were measured as the peak of a process (tests/attack/memory.py; torch 2.13, CPU, float32), less what it
holds before the start, and rounded down: an estimate lies between a third of what is taken and all of it. So it refuses
nothing that fits, and what it lets pass may still be short by up to that factor. A model larger than the demo model
takes more, and is not known here.

    a picture drawn to a file       4 a pixel, Pillow's; WebP's encoder 8 more
    a picture as a float tensor     12 a pixel
    a step of a neural image        80 a pixel, and 11 for each hidden unit that the backward pass keeps
    its parameters                  20 each: value, gradient, Adam's two, and the next state's
    a step of pixels                100 a pixel; of a latent 30 for each number of it
    a step of vector graphics       25 for each pixel that the backward pass keeps of a path
    a step of a volume              100 a pixel of a view, and 250 for each sample on its rays that is kept
    demo autoencoder and UNet       200 a pixel, 8 for each pair of latent cells (attention); 1,200 a pixel if
                                    differentiated
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

FILE, FLOAT, WEBP = 4, 12, 8
NEURAL_STEP, PIXELS_STEP, LATENT_STEP, PATH_STEP, SAMPLE_STEP, UNIT, PARAMETER = 75, 100, 30, 25, 250, 11, 20
MODEL, MODEL_BACKWARD, PAIR = 200, 1200, 8
HIDDEN, LAYERS, PATHS, VIEWS, RAYS, RAY_SAMPLES = 64, 3, 64, 4, 64, 32
"""Of a generator that is told nothing else."""


def available_memory(root: Path = Path("/")) -> int:
    """Bytes that this process can still take: free memory, and the room that its control groups leave.

    ``root`` is where the files of the control groups lie.
    """
    import psutil

    return min([psutil.virtual_memory().available, *_rooms(root)])


def _rooms(root: Path) -> Iterator[int]:
    """Bytes that each control group above this process leaves (Linux; versions 1 and 2); none elsewhere."""
    try:
        groups = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    for group in groups:
        _, kinds, path = group.split(":", 2)
        if kinds not in ("", "memory"):
            continue
        base = root / "sys/fs/cgroup" / kinds
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes") if kinds else ("memory.max", "memory.current")
        place = Path(path.lstrip("/"))
        for folder in (base / place, *(base / parent for parent in place.parents)):
            try:
                limit, used = ((folder / name).read_text(encoding="utf-8").strip() for name in names)
                told = (folder / "memory.stat").read_text(encoding="utf-8")
            except OSError:
                continue
            if limit != "max":
                entries = dict(line.split() for line in told.splitlines())
                cached = int(entries.get("total_inactive_file", entries.get("inactive_file", 0)))
                yield int(limit) - int(used) + cached  # the kernel gives files' pages back when asked for more


def check_fits(name: str, value: object, needed: float, fix: str) -> None:
    """Refuse what needs more memory than there is.

    Args:
        name, value: of the argument that asks for it.
        needed: bytes, by one of the estimates here.
        fix: what to lower.

    Raises:
        ValueError: naming what is needed, what there is, and the fix.
    """
    free = available_memory()
    if needed > free:
        raise ValueError(
            f"{name}: got {value}, which takes at least {needed / 1e9:.3g} GB of memory; allowed is what fits into the "
            f"{free / 1e9:.3g} GB that are free. {fix}"
        )


def check_render(width: int, height: int, *, suffix: str = "", whole: bool = False, n: int = 1) -> None:
    """Refuse a picture that cannot be held, before it is drawn.

    Args:
        width, height: in pixels.
        suffix: ending of its file; "" is a float tensor, that no file is made of.
        whole: drawn at once, by a generator that knows no windows.
        n: how many of them.

    Raises:
        ValueError: as `check_fits`.
    """
    each = (FILE + (WEBP if suffix.lower() == ".webp" else 0) if suffix else FLOAT) + (FLOAT if whole else 0)
    _check_size(width, height, n * each * width * height)


def check_samples(n: int, width: int, height: int, rows: int) -> None:
    """Refuse ``n`` samples of a size, ``rows`` of them at a time, on one sheet.

    Raises:
        ValueError: as `check_fits`.
    """
    _check_size(width, height, rows * model_bytes(width, height))
    fix = "Lower n or the size."
    check_fits("n", f"{n} pictures of {width}x{height}", FILE * n * width * height, fix)


def check_distillation(
    kind: str,
    width: int,
    height: int,
    model: Any = None,  # noqa: ANN401 - a `Model`
    *,
    pull: str = "image",
    n: int = 1,
    options: Mapping[str, Any] | None = None,
) -> None:
    """Refuse a distillation whose step cannot fit; to be called before its generator is made.

    Args:
        kind: of the generator.
        width, height: in pixels.
        model: what pulls it; None is the generator alone.
        pull: "image", or "latent": through the encoder.
        n: how many side by side.
        options: the generator's own, those that are not its defaults.

    Raises:
        ValueError: as `check_fits`.
    """
    given = dict(options or {})
    needed = step_bytes(kind, width, height, model, given)
    if model is not None:
        backward = pull == "latent" and kind != "latent" and model.encode is not None
        views = given.get("views", VIEWS) if kind == "volume" else 1
        needed += views * model_bytes(width, height, model.cell, backward=backward)
    _check_size(width, height, n * needed)


def step_bytes(
    kind: str,
    width: int,
    height: int,
    model: Any = None,  # noqa: ANN401 - a `Model`
    options: Mapping[str, Any] | None = None,
) -> int:
    """Bytes of one step of a generator alone, rendered, differentiated and updated with Adam."""
    from .generators.neural_image import FIELDS
    from .generators.pieces import CHUNK, KEPT

    pixels, given = width * height, dict(options or {})
    if kind == "latent":
        cell, channels = (8, 4) if model is None else (model.cell, model.channels)
        return LATENT_STEP * channels * pixels // cell**2
    if kind == "vector":
        from .generators.vector.shapes import KEPT as PAINTED

        count = given.get("paths", PATHS) + given.get("strokes", 0)
        return PIXELS_STEP * pixels + PATH_STEP * min(count * pixels, PAINTED)
    if kind == "volume":
        return _views_bytes(width, height, given)
    if kind not in FIELDS:
        return PIXELS_STEP * pixels
    hidden, layers = given.get("hidden", HIDDEN), given.get("layers", LAYERS)
    units = hidden * layers
    kept = pixels if pixels * units <= KEPT else CHUNK
    return NEURAL_STEP * pixels + UNIT * units * min(pixels, kept) + PARAMETER * hidden**2 * (layers - 1)


def _views_bytes(width: int, height: int, options: Mapping[str, Any]) -> int:
    """Bytes of one step of a volume; views of more samples than are kept are differentiated piece by piece."""
    from .generators.volume.fields import FIELDS
    from .generators.volume.march import CHUNK, KEPT

    share = min(1.0, options.get("rays", RAYS) / max(width, height))
    samples = int(width * height * share**2) * options.get("ray_samples", RAY_SAMPLES)
    views, weight = options.get("views", VIEWS), FIELDS[options.get("grid", "dense")].weight
    kept = views * samples if views * samples * weight <= KEPT else CHUNK
    return views * PIXELS_STEP * width * height + SAMPLE_STEP * weight * kept


def model_bytes(width: int, height: int, cell: int = 8, *, backward: bool = False) -> int:
    """Bytes of the demo model for one picture, encoded, denoised and decoded."""
    pixels, cells = width * height, width * height // cell**2
    return (MODEL_BACKWARD if backward else MODEL) * pixels + PAIR * cells**2


def _check_size(width: int, height: int, needed: float) -> None:
    share = math.sqrt(min(1.0, 0.9 * available_memory() / needed))
    fix = f"Lower it, to about {max(1, int(width * share))}x{max(1, int(height * share))}, or free memory."
    check_fits("size", f"{width}x{height}", needed, fix)
