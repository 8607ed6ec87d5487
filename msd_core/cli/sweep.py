"""Run every cell of a grid, prompts x settings x seeds, and compare the settings with intervals.

Writes results.csv, results.parquet, summary.csv, frontier.png and contact_sheet.png into --out, and every cell, as
soon as it is done, into --out/cells. Whatever ends the sweep, the same command goes on from there; cells that have
failed are tried again.

A model of your own is two lines of the grid file (pip install '.[sweep,diffusers]'; more in docs/frontier.md):

  model: stable-diffusion-v1-5/
  model_kind: diffusers
  size: [512, 512]
  prompts: [a red cup, a blue cat]
  settings:
    sample: {method: ddim, cfg: 7.5}
    fast: {method: msd, preset: fast, cfg: 7.5}

Its pictures are measured by the model's own error of denoising them; the judge reads those of the demo model alone.
The exit status is 1 where cells have failed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..echo import shown
from .arguments import count_to, file, path, writable_folder
from .claim import claimed
from .digests import Digests, digest_of_model
from .signals import Stopped, signals

if TYPE_CHECKING:
    from ..sweep.grid import Cell, Grid
    from ..sweep.pool import Batch, Spread, Work

HELP = "prompts x settings x seeds, on many processes or machines"
EXTRA = {"yaml", "joblib", "pyarrow", "matplotlib", "ray"}
DIGESTS = ".msd-digests.json"
TOLD = 5
"""Reasons for failed cells that are printed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `msd sweep`."""
    parser.add_argument("grid", type=file, help="YAML file of the cells (see msd_core/sweep/grid.py)")
    parser.add_argument("--out", type=path, required=True, help="folder of the results")
    parser.add_argument("--workers", type=count_to(1024), default=1, help="processes on this machine (default: 1)")
    parser.add_argument("--ray", metavar="ADDRESS", help="a Ray cluster instead; 'local' starts one on this machine")
    parser.add_argument(
        "--threads", type=count_to(1024), help="of each worker (default: the processors, shared among the workers)"
    )
    parser.add_argument(
        "--device",
        help="where the model runs: cpu, cuda, mps (default: cpu; for a pipeline the first of cuda, mps, cpu)",
    )
    parser.add_argument("--force", action="store_true", help="replace what is in --out, whoever has written it")


def run(arguments: argparse.Namespace) -> int:
    """Check grid and folder, run what is missing, and write the tables of what is there."""
    try:
        from ..sweep import pool
        from ..sweep.grid import read_grid
        from ..sweep.table import RESULTS
        from ..validation import check_device

        if arguments.device is not None:
            check_device("--device", arguments.device)
        grid = read_grid(arguments.grid)
        folder = writable_folder(arguments.out)
        with claimed(folder, RESULTS) as claim:
            if not arguments.force:
                claim.check_foreign("--out")
            spread = pool.in_turn if arguments.workers == 1 else pool.on_processes(arguments.workers)
            status = _sweep(grid, folder, pool.on_ray(arguments.ray) if arguments.ray else spread, arguments)
            claim.record()
        return status
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        if library not in EXTRA:
            raise
        raise ValueError(f"{library} is not installed; install what sweeps need: pip install '.[sweep]'") from error


def _sweep(grid: Grid, folder: Path, spread: Spread, arguments: argparse.Namespace) -> int:
    """Run the missing cells under a bar; returns the exit status."""
    from tqdm import tqdm

    from ..sweep.store import FOLDER, forget, kept

    digest = _digest(grid, folder)
    cells = [(cell, grid.identity(cell, digest)) for cell in grid.cells()]
    missing = [(cell, identity) for cell, identity in cells if kept(folder, identity) is None]
    (folder / FOLDER).mkdir(exist_ok=True)
    for _, identity in missing:
        forget(folder, identity)
    work = _work(grid, folder, digest, arguments)
    status = 0
    try:
        with tqdm(total=len(cells), initial=len(cells) - len(missing), desc="sweep", unit="cell") as bar:
            for done in spread(work, list(_batches(missing, grid.batch))):
                bar.update(done)
    except KeyboardInterrupt as stop:
        signals.shut()
        status = stop.status if isinstance(stop, Stopped) else 130
        print("msd: stopped; what is done is kept, the same command goes on", file=sys.stderr)
    return _report(grid, folder, cells, status)


def _work(grid: Grid, folder: Path, digest: str, arguments: argparse.Namespace) -> Work:
    """What all batches share."""
    from ..sweep.pool import Work

    device = arguments.device
    if device is None and grid.model_kind == "diffusers":
        from ..pipelines.model import default_device

        device = default_device()
    model = str(Path(grid.model).resolve()) if grid.model else None
    of_model = {"kind": grid.model_kind, "dtype": grid.dtype, "offload": grid.offload, "digest": digest}
    return Work(folder.resolve(), model, grid.size, grid.generator, device or "cpu", _threads(arguments), **of_model)


def _digest(grid: Grid, folder: Path) -> str:
    """What the grid's model is; it is read where ``folder`` does not remember it."""
    from ..model import SHIPPED

    path = Path(grid.model) if grid.model else SHIPPED[grid.model_kind]
    if not path.exists():
        raise ValueError(f"model: got {shown(str(path))}, which is not there; allowed is its file or folder. Name it.")
    return digest_of_model(path, grid.model_kind, Digests(folder / DIGESTS))


def _threads(arguments: argparse.Namespace) -> int:
    """Threads of each worker: as asked for, or a fair share of the processors."""
    import psutil

    return arguments.threads or max(1, (psutil.cpu_count(logical=False) or 1) // arguments.workers)


def _batches(cells: Sequence[tuple[Cell, str]], size: int) -> Iterator[Batch]:
    """The cells in batches of one setting's options."""
    from itertools import groupby

    from ..sweep.pool import Batch

    for _, group in groupby(cells, key=lambda pair: (pair[0].setting, pair[0].options)):
        some = list(group)
        for i in range(0, len(some), size):
            own, identities = zip(*some[i : i + size], strict=True)
            yield Batch(own, identities)


def _report(grid: Grid, folder: Path, cells: Sequence[tuple[Cell, str]], status: int) -> int:
    """Write and print the tables of the cells that are there, and why others are not."""
    from ..sweep.store import kept, noted, picture_file
    from ..sweep.table import summary, write

    names = list(grid.grid)
    there: list[tuple[Mapping[str, Any], Path]] = []
    failed: dict[str, list[Cell]] = {}
    for cell, identity in cells:
        content = kept(folder, identity)
        if content is not None:
            there.append(({**content, "setting": cell.setting}, picture_file(folder, identity)))
        elif why := noted(folder, identity):
            failed.setdefault(why, []).append(cell)
    if there:
        rows, pictures = zip(*there, strict=True)
        write(folder, rows, pictures, names)
        for name, means in summary(rows, names).items():
            print(f"{name}: " + ", ".join(f"{figure} {mean.value:.4g}" for figure, mean in means.items()))
    if len(there) < len(cells):
        print(f"msd: {len(there)} of {len(cells)} cells are there", file=sys.stderr)
    _tell(failed)
    return status or int(bool(failed))


def _tell(failed: Mapping[str, Sequence[Cell]]) -> None:
    """Print the first reasons why cells have failed, and a cell for each."""
    for why, cells in list(failed.items())[:TOLD]:
        first = cells[0]
        which = f"{first.setting!r}, {shown(first.prompt)}, seed {first.seed}"
        more = f" and {len(cells) - 1} more" if len(cells) > 1 else ""
        print(f"msd: failed: {which}{more}: {why}", file=sys.stderr)
    if len(failed) > TOLD:
        print(f"msd: and {len(failed) - TOLD} reasons more, in cells/*.error", file=sys.stderr)
