"""What a picture costs and how good it is: each figure of quality against evaluations, a point a setting, as a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .table import Mean

AXES = {
    "accepted": "accepted by the judge, higher is better",
    "iou": "IoU of things and shapes, higher is better",
    "surprise": "error of denoising the picture, lower is better",
}
WIDTH, HEIGHT = 4.6, 4.0
"""Of one figure, in inches at 110 dots each."""


def frontier(settings: Mapping[str, Mapping[str, Mean]]) -> bytes:
    """The plot of a sweep's ``settings``, means by figure (`table.summary`), as the bytes of a PNG file.

    Bars are the means' intervals. Figures that no setting has are left out.
    """
    from matplotlib.figure import Figure

    known = [name for name in AXES if any(name in means for means in settings.values())]
    figure = Figure((WIDTH * len(known), HEIGHT), dpi=110, layout="constrained")
    for axes, name in zip(figure.subplots(1, len(known), squeeze=False)[0], known, strict=True):
        for i, (setting, means) in enumerate(settings.items()):
            if name in means:
                mean, cost = means[name], means["evaluations"].value
                bar = [[mean.value - mean.low], [mean.high - mean.value]]
                axes.errorbar(cost, mean.value, yerr=bar, fmt="os^Dvp"[i // 10 % 6], capsize=3, label=setting)
        axes.set(xscale="log", xlabel="evaluations of the model a picture", title=AXES[name])
        axes.title.set_fontsize("medium")
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4, fontsize="small")
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
