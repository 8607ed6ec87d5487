"""What the options of a cell ask for: a sample, a generator fitted to one, or a distillation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from ..distillation.base import needs_of
from ..echo import shown
from ..generators import GENERATORS
from ..named import NAMED, preset_at
from ..preset import Preset
from ..units import Units
from ..validation import check_choice, check_text

SAMPLED = ("ddim", "fit")
"""Methods of a sweep that distil nothing."""
STARTS = ("", "sample")
_SAMPLE_OPTIONS = {"cfg": 3.0, "steps": 32}
_LARGE = Units(1.0, 2**30)
"""Of no model: a preset begins so high there that what is given beside it fits below."""


@dataclass(frozen=True)
class Plan:
    """What the options of a cell ask for.

    Attributes:
        preset: of the distillation; None where nothing is distilled.
        start: "" or "sample".
        fit: whether a generator is fitted to the sample that is no distillation.
        negative: what not to draw.
        cfg, steps: of the sample.
    """

    preset: Preset | None
    start: str = ""
    fit: bool = False
    negative: str = ""
    cfg: float = 3.0
    steps: int = 32

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries of plain values."""
        preset = None if self.preset is None else self.preset.to_json()
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"preset": preset}


def plan_of(options: Mapping[str, Any], generator: str = "fourier", units: Units | None = None) -> Plan:
    """What ``options`` ask for.

    Args:
        options: by plain name.
        generator: kind of the generator.
        units: of the model at the size of the pictures, which a preset's numbers are made for; left out where options
            are checked and no model is there yet.

    Raises:
        ValueError: for one that is unknown or not allowed.
    """
    rest = {name: _tuples(value) for name, value in options.items()}
    method, negative = rest.pop("method", "msd"), rest.pop("negative", "")
    check_text("negative", negative)
    if method in SAMPLED:
        for name in rest:
            check_choice(f"option of {method}", name, _SAMPLE_OPTIONS)
        return Plan(None, fit=method == "fit", negative=negative, **{**_SAMPLE_OPTIONS, **rest})
    named = rest.pop("preset", None)
    if named is not None:
        check_choice("preset", named, NAMED)
    start = rest.pop("start", NAMED[named].start if named else "")
    check_choice("start", start, STARTS)
    kind = GENERATORS[generator]
    preset = preset_at(lambda: units or _LARGE, method, rest, kind, named)
    if "source" in needs_of(preset.method):
        raise ValueError(
            f"method: got {shown(method)}, which edits a picture; allowed are methods that draw one from its prompt. "
            "Use distil(..., source=...) for each picture."
        )
    return Plan(preset, start=start, negative=negative, cfg=preset.cfg)


def _tuples(value: Any) -> Any:  # noqa: ANN401
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
