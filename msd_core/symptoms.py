"""Whether a run has ended at a picture, by what it measured: a warning in words, with the likely cause.

The mean shift |m| is zero at a mode, up to the noise of its draws. In units of the data's standard deviation s per
coordinate,

    r = |m| / (s sqrt(d)),

a picture that no draw of the model agrees with has r near 1, the distance of a draw from anything else; a picture near
a mode has what draws differ by within the last lambda, which for pictures is far less than s, since most of their
coordinates follow from the others. `SHIFT` lies between the two: docs/presets.md has the runs on which it was chosen,
and others on which it was tried. A generator that cannot come close to every picture (`Generator.universal`), such as
cells of a palette or a kaleidoscope, is left with a shift at the best that it can draw, and a picture within a mask
with that of what it keeps: of these, `BOUND` is asked.

What has gone wrong is told by further signs: clipped values (a learning rate that is too high), a first shift that is
many s (guidance that is too strong), a last lambda above s (a run that stopped where pictures still differ as a whole),
and otherwise too few updates. A method without kernel has no mean shift: of it, only a picture of one colour is told.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from .preset import Preset
from .state import State
from .validation import check_instance, check_positive

SHIFT = 0.3
"""r from which a run has not ended at a picture."""
BOUND = 0.9
"""The same of a generator that cannot draw every picture."""
CLIPPED = 0.5
"""Share of values at 0 or 1 from which a picture is driven there, where its shift is large as well."""
GUIDED = 8.0
"""r of the largest shift of a run from which its guidance is too strong."""
COARSE = 1.5
"""Last lambda, in s, above which pictures differ as a whole."""
FLAT = 0.01
"""Standard deviation of a picture's values, in [0, 1], below which it has one colour."""
EDGE = 1 / 255


@dataclass(frozen=True)
class Symptoms:
    """What a run measured.

    Attributes:
        shift: r of the last iteration; None for a method without kernel.
        largest: r of the largest shift of all iterations.
        bandwidth: the last lambda, in s.
        clipped: share of the picture's values that are 0 or 1; 0 for a latent.
        deviation: standard deviation of the picture's values about each channel's mean; infinite for a latent.
    """

    shift: float | None
    largest: float
    bandwidth: float
    clipped: float
    deviation: float


def symptoms_of(state: State, data_std: float = 1.0) -> Symptoms:
    """The symptoms of a run that stands at ``state``; a batch is judged as a whole.

    Args:
        state: after at least one iteration.
        data_std: s, the standard deviation of the model's data (`denoiser.data_std`).

    Raises:
        ValueError: before the first iteration, or for a standard deviation that is not positive.
    """
    check_instance("state", state, State, "a State, as `optimize` yields it")
    check_positive("data_std", data_std)
    last, shifts = state.info, [info.rms / data_std for info in state.history]
    clipped, deviation = 0.0, math.inf
    if state.generator.space == "image":
        picture = state.picture()
        clipped = float(((picture <= EDGE) | (picture >= 1 - EDGE)).float().mean())
        deviation = float(picture.flatten(2).std(dim=2).mean()) if picture[0, 0].numel() > 1 else math.inf
    if last.bandwidth is None:
        return Symptoms(None, 0.0, 0.0, clipped, deviation)
    return Symptoms(shifts[-1], max(shifts), last.bandwidth / data_std, clipped, deviation)


def warning_of(
    state: State, preset: Preset, data_std: float = 1.0, *, confined: bool = False, own_guidance: bool = False
) -> str:
    """One sentence about a run that has not ended at a picture, with the likely cause and what to change; "" if it has.

    Args:
        state: the run's last.
        preset: of the run.
        data_std: as in `symptoms_of`.
        confined: whether a mask kept a part of the picture.
        own_guidance: whether the model was guided by a rule that does not ask the preset's cfg.

    Raises:
        ValueError: as `symptoms_of`.
    """
    found = symptoms_of(state, data_std)
    if found.shift is None:
        if found.deviation >= FLAT:
            return ""
        guidance = "the guidance" if own_guidance else f"cfg {preset.cfg:g}"
        rates = f"the learning rate {preset.lr:g}, or {guidance}, is too high"
        return f"the picture has one colour, so {rates}: lower it"
    most = SHIFT if state.generator.universal and not confined else BOUND
    if found.shift < most:
        return ""
    measured = f"the last shift is {found.shift:.2f} deviations of the data, of a finished picture below {most:g}"
    return f"the run has not ended at a picture: {measured}; {_cause(found, preset, own_guidance)}"


def _cause(found: Symptoms, preset: Preset, own_guidance: bool) -> str:
    """The likely cause, and what to change."""
    if found.clipped >= CLIPPED:
        share = f"{found.clipped:.0%} of the values are clipped"
        return f"{share}, so the learning rate {preset.lr:g} is too high: divide it by 5"
    if found.largest >= GUIDED:
        size = f"the largest shift was {found.largest:.0f} deviations"
        lower = "it" if own_guidance else f"cfg from {preset.cfg:g}, 3 to 8 are usual"
        return f"{size}, so the guidance is too strong: lower {lower}"
    if found.bandwidth > COARSE:
        return (
            f"the bandwidth stopped at λ {found.bandwidth:.2g} deviations, where pictures still differ as a whole: "
            "lower its end to about .7"
        )
    return (
        f"the picture has not reached its targets: raise steps ({preset.steps}), inner_steps ({preset.inner_steps}) or "
        f"the learning rate ({preset.lr:g})"
    )
