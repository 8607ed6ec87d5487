"""The settings of a run: the method's own, and those that are not the method's.

A preset is plain, frozen and JSON-able. `preset_of` gives that of a method: its defaults, and what its file recommends
beside them (``recommended``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from typing import Any

from .distillation import METHODS, MSD, Method
from .echo import shown
from .optimizers import OPTIMIZERS, OptimizerConfig
from .pull import PULLS
from .settings import build, check_settings, from_json, setting, settings_of, to_json


@dataclass(frozen=True)
class Preset:
    """Everything that decides a run beside model, prompt, generator and seed.

    Raises:
        ValueError: for a value out of range.
    """

    method: Method = setting(MSD(), "what moves the picture", family=METHODS)
    steps: int = setting(120, "iterations", low=1, high=1_000_000, usual=(1, 100000))
    cfg: float = setting(3.0, "guidance, uncond + cfg (cond − uncond): 1 = none", usual=(0, 200))
    lr: float = setting(
        1e-2,
        "learning rate. adam: of the parameters; gd: share of the shift that the picture moves by",
        above=0,
        usual=(1e-6, 10),
    )
    optimizer: str = setting(
        "adam", "adam rescales every gradient to full steps; gd (gradient descent) keeps its scale", choices=OPTIMIZERS
    )
    pull: str = setting(
        "image",
        "image: the picture, towards the decoded target, no gradient through the VAE; latent: x, through its encoder",
        choices=PULLS,
    )
    lr_coupling: float | None = setting(
        None,
        "below this λ the learning rate falls in proportion to λ",
        kind=float,
        above=0,
        usual=(0, 1000),
        optional=True,
        expert=True,
    )
    min_bandwidth: float = setting(0.0, "stop below this λ; 0 = never", low=0, usual=(0, 1000), expert=True)
    tolerance: float | None = setting(
        None,
        "stop once the size of the shift is this small",
        kind=float,
        above=0,
        usual=(0, 1000),
        optional=True,
        expert=True,
    )

    inner_steps: int = setting(
        1,
        "updates of the generator towards the target of each iteration: fewer evaluations for as many updates",
        low=1,
        high=10_000,
        usual=(1, 100),
        expert=True,
    )

    def __post_init__(self) -> None:
        object.__setattr__(self, "method", METHODS.made("method", self.method))
        check_settings(self)

    @property
    def optimizer_config(self) -> OptimizerConfig:
        """The optimiser."""
        return OptimizerConfig(self.optimizer, self.lr, lr_coupling=self.lr_coupling)

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries of plain values."""
        return to_json(self)

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Preset:
        """The preset that `to_json` gave.

        Raises:
            ValueError: for an entry that is unknown or not allowed.
        """
        return from_json(cls, saved)


def preset_of(method: str | Method, **changes: Any) -> Preset:  # noqa: ANN401 - settings by their plain names
    """The preset of a method, by its name or with its settings, and with ``changes`` by plain name.

    Raises:
        ValueError: for an unknown method, or a change that the method does not know or allow.
    """
    chosen: Method = METHODS.made("method", method)
    if not is_dataclass(chosen):
        raise ValueError(
            f"method: got {shown(chosen)}; allowed is the name of a method, or a dataclass of its settings. Pass one."
        )
    return build(Preset(method=chosen, **getattr(chosen, "recommended", {})), changes)


def preset_for(generator: object, method: str | Method, changes: Mapping[str, Any]) -> Preset:
    """`preset_of`, with what a ``generator``, or its class, recommends with the method in between.

    A method that is given with its settings keeps them: it takes the recommended settings of the run alone.

    Raises:
        ValueError: as `preset_of`.
    """
    names = [method] if isinstance(method, str) else [name for name in METHODS if METHODS[name] is type(method)]
    own = getattr(generator, "recommended", {})
    recommended = {
        key: value
        for name in names
        for key, value in own.get(name, {}).items()
        if isinstance(method, str) or key in settings_of(Preset)
    }
    return build(preset_of(method, **recommended), changes)


def named_presets() -> dict[str, Preset]:
    """A preset for every method that is registered, by the method's name."""
    return {name: preset_of(name) for name in METHODS}
