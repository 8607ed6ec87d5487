"""docs/settings.md, made from the fields of the classes: `python -m msd_core.settings_page > docs/settings.md`."""

from __future__ import annotations

import inspect

from .bandwidth import BANDWIDTHS
from .distillation import METHODS
from .generators import GENERATORS
from .mean_shift import ESTIMATORS
from .posterior import INVERSE_SOLVERS
from .preset import Preset, named_presets
from .registry import Registry
from .settings import menu, settings_of, settings_table

HEAD = """# Settings

Made from the code, by `python -m msd_core.settings_page > docs/settings.md`. Names are those of Python's `distil(...)`;
a flag of `msd distill` is the same with hyphens (`solver_steps` → `--solver-steps`), and the nodes' widgets are made
from the same fields.
"""


def settings_page() -> str:
    """The page: the run's own settings, then every method, estimator, curve and generator that it brings."""
    parts = [HEAD, "## A run", settings_table(Preset), _recommended()]
    for title, family, prefix in (
        ("Methods", METHODS, ""),
        ("Estimators of the mean shift (`--method msd`)", ESTIMATORS, ""),
        ("Bandwidths λ (`--method msd`)", BANDWIDTHS, "bandwidth_"),
    ):
        parts += [f"## {title}", *_sections(family, prefix)]
    parts += ["## Generators (`--generator`)", *_generators()]
    parts += [
        "## Solvers of inverse problems (`msd inpaint` and `msd restore`, `--solver`)",
        *_sections(INVERSE_SOLVERS, ""),
    ]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _recommended() -> str:
    """What a method's file recommends beside the defaults of a run."""
    plain, lines = Preset(), []
    for name, preset in named_presets().items():
        own = {key: getattr(preset, key) for key in settings_of(Preset) if key != "method"}
        changed = {key: value for key, value in own.items() if value != getattr(plain, key)}
        if changed:
            lines.append(f"`{name}`: " + ", ".join(f"`{key}` {value}" for key, value in changed.items()))
    return f"Other defaults: {'; '.join(lines)}."


def _sections(family: Registry, prefix: str) -> list[str]:
    """Heading, first sentence and table of every entry of a family."""
    sections = []
    for name in menu(family):
        sentence = (inspect.getdoc(family[name]) or "").split("\n\n")[0].replace("\n", " ")
        sections += [f"### {name}", sentence, settings_table(family[name], prefix)]
    return sections


def _generators() -> list[str]:
    """Heading and table of every kind that has settings; kinds with the same ones stand together."""
    kinds: dict[type, list[str]] = {}
    for name, kind in GENERATORS.items():
        owner = getattr(kind, "settings", None)
        if owner is not None:
            kinds.setdefault(owner, []).append(name)
    parts = []
    for owner, names in kinds.items():
        parts += [f"### {', '.join(names)}", settings_table(owner)]
        for method, changed in getattr(GENERATORS[names[0]], "recommended", {}).items():
            told = ", ".join(f"`{key}` {value}" for key, value in changed.items())
            parts.append(f"Other defaults of a run of `{method}`: {told}. The nodes leave them to their widgets.")
    return parts


if __name__ == "__main__":
    print(settings_page(), end="")
