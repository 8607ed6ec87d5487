"""What a step of a volume costs by part, each size in a process of its own, so that its memory can be told.

render      four views, enlarged to 128 pixels, with what the backward pass keeps
backward    through them
update      Adam, the ground, and every sixteenth time the look at which cells are empty, as a share
model       a mean shift of the demo model for four views: 72 rows, encoded and decoded
memory      peak of the process, less what it holds before the first render
"""

from __future__ import annotations

import json
import subprocess
import sys

from ...validation import check_choice, check_count

SIDES, GRIDS = (64, 128, 256), ("dense", "hash")
REPEATS, QUICK_REPEATS = 5, 1
CHILD = """
import json, sys, time
from pathlib import Path
import torch
from msd_core import METHODS, load_model
from msd_core.generators.base import Moved
from msd_core.generators.volume.volume import Volume
from msd_core.randomness import seeded

grid, rays, repeats = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])

def peak():
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return 1024 * int(next(line for line in status.read_text().splitlines() if line.startswith("VmHWM")).split()[1])

volume = Volume(max(128, rays), max(128, rays), grid=grid, rays=rays)
optimizer = torch.optim.Adam(volume.parameters(), lr=0.01)
rng, found, before = seeded(0), {"render": [], "backward": [], "update": []}, peak()
for step in range(repeats + 1):
    start = time.perf_counter()
    cameras = volume.view(step, repeats, rng)
    pictures = volume.render(cameras)
    rendered = time.perf_counter()
    optimizer.zero_grad()
    pictures.square().mean().backward()
    back = time.perf_counter()
    optimizer.step()
    with torch.no_grad():
        volume.tend(Moved(step, repeats, cameras, pictures.detach(), pictures.detach()), rng)
    ends = start, rendered, back, time.perf_counter()
    for name, begin, end in zip(found, ends, ends[1:]):
        found[name].append(end - begin)
told = {name: sorted(times[1:])[repeats // 2] for name, times in found.items()} | {"memory": peak() - before}
if repeats > 1 and rays == 64 and grid == "dense":
    model = load_model()
    denoiser = model.denoiser("a red circle", cfg=3.0)
    x = torch.rand(4, 3, 128, 128)
    start = time.perf_counter()
    with torch.no_grad():
        encoded = model.encode(x)
        gradient, _ = METHODS["msd"]()(encoded, denoiser, step=0, steps=60, rng=rng)
        model.decode(encoded - gradient)
    told["model"] = time.perf_counter() - start
print(json.dumps(told))
"""


def measured(grid: str, rays: int, repeats: int = REPEATS) -> dict[str, float]:
    """Seconds by part, the median of ``repeats`` after one that is not counted, and bytes.

    Raises:
        ValueError: for a grid or numbers that are not allowed.
    """
    check_choice("grid", grid, GRIDS)
    check_count("rays", rays)
    check_count("repeats", repeats)
    command = [sys.executable, "-c", CHILD, grid, str(rays), str(repeats)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
    return json.loads(done.stdout)
