"""How much memory pictures and steps take: the peak of a process of its own for every point, as a CSV and a plot.

    python tests/attack/memory.py OUT [--largest PIXELS]

    render    `msd render` of a saved generator to a file, at 256 to 16384 pixels a side
    node      the same tiles into one float32 tensor, as the node Render Generator does
    step      one optimisation step of the generator alone: `Pull` on what it renders, and Adam, at 256 to 2048

A point's peak is the kernel's VmHWM, since ru_maxrss starts from what the parent process held. It includes interpreter
and torch: what is there at the smallest size. Beside it the CSV has the picture's own bytes.
"""

from __future__ import annotations

import argparse
import csv
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

KINDS = ("fourier", "siren", "hashgrid", "pixels", "latent")
SIDES = {
    "render": (256, 1024, 2048, 4096, 8192, 16384),
    "node": (256, 1024, 2048, 4096, 8192),
    "step": (256, 512, 1024, 2048),
}
PICTURE_BYTES = {"render": 4, "node": 12, "step": 12}
"""Bytes a pixel of the picture itself: PIL's, and float32's."""

CHILD = """
import sys
from pathlib import Path
import torch
torch.set_num_threads(1)
task, kind, side, folder = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
from msd_core.generators import generator_for_size, render_tiles, save_generator
own = side if task == "step" else 256
generator = generator_for_size(kind, own, own)
if task == "render":
    from msd_core.cli.main import main
    save_generator(generator, f"{folder}/generator.safetensors")
    assert main(["render", f"{folder}/generator.safetensors", "--size", str(side)]) == 0
elif task == "node":
    picture = torch.empty(1, side, side, 3)
    cells = 1 if generator.space == "image" else 8
    for top, left, tile in render_tiles(generator, side // cells, side // cells):
        if cells == 1:
            picture[:, top : top + tile.shape[2], left : left + tile.shape[3]] = tile.movedim(1, -1)
else:
    from dataclasses import dataclass
    from msd_core.info import Info
    from msd_core.optimize import optimize, start
    @dataclass(frozen=True)
    class Towards:
        def __call__(self, x, denoiser, *, step, steps, rng):
            return x - 0.3, Info(0, 1.0, 1.0)
    for state in optimize(start(generator, steps=1), Towards(), lambda z, sigma: z):
        assert state.step == 1
status = Path("/proc/self/status").read_text().splitlines()
print(1024 * next(int(line.split()[1]) for line in status if line.startswith("VmHWM")))
"""


@dataclass(frozen=True)
class Point:
    """One measurement, in bytes."""

    task: str
    kind: str
    side: int
    peak: int
    picture: int


def measure(task: str, kind: str, side: int) -> Point:
    """The peak of one task in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", CHILD, task, kind, str(side), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return Point(task, kind, side, int(done.stdout.split()[-1]), PICTURE_BYTES[task] * side**2)


def main() -> None:
    """Measure all points, and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="folder of memory.csv and memory.png")
    parser.add_argument("--largest", type=int, default=16384, help="pixels a side (default: 16384)")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    points = []
    for task, sides in SIDES.items():
        for kind in KINDS:
            for side in (side for side in sides if side <= arguments.largest):
                points.append(measure(task, kind, side))
                print(f"{task} {kind} {side}: {points[-1].peak / 1e9:.2f} GB", flush=True)
    write(points, arguments.out)


def write(points: list[Point], out: Path) -> None:
    """memory.csv and memory.png: peak against side, a panel a task."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    with (out / "memory.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, list(asdict(points[0])))
        table.writeheader()
        table.writerows(map(asdict, points))
    figure, panels = plt.subplots(1, len(SIDES), figsize=(13, 4), sharey=True)
    for panel, task in zip(panels, SIDES, strict=True):
        for kind in KINDS:
            own = [p for p in points if (p.task, p.kind) == (task, kind)]
            panel.loglog([p.side for p in own], [p.peak / 1e9 for p in own], "o-", label=kind, base=2)
        sides = sorted({p.side for p in points if p.task == task})
        panel.loglog(sides, [PICTURE_BYTES[task] * side**2 / 1e9 for side in sides], "k:", label="the picture itself")
        panel.set(title=task, xlabel="pixels a side", ylim=(0.1, 8))
        panel.set_xticks(SIDES[task], [str(side) for side in SIDES[task]], rotation=45)
        panel.set_xticks([], minor=True)
        panel.set_yticks([0.1, 0.25, 0.5, 1, 2, 4, 8], ["0.1", "0.25", "0.5", "1", "2", "4", "8"])
        panel.set_yticks([], minor=True)
    panels[0].set_ylabel("peak of the process, GB")
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(out / "memory.png", dpi=110)


if __name__ == "__main__":
    main()
