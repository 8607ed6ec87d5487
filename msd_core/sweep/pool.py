"""Spread the batches of a sweep: over processes of this machine (joblib), or a Ray cluster.

Both run `work`, which keeps every cell as it is done; so a worker, or all of it, may be killed at any time, and the
next run does what is missing. A batch whose worker died is run again, `TRIES` times.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from .grid import Cell

TRIES = 3


@dataclass(frozen=True)
class Batch:
    """Cells of one setting, and their identities."""

    cells: Sequence[Cell]
    identities: Sequence[str]


@dataclass(frozen=True)
class Work:
    """What all batches of a sweep share: where to keep them, and what to run them with; ``threads`` a worker."""

    folder: Path
    model: str | None
    size: tuple[int, int] | None
    generator: str
    device: str
    threads: int

    def __call__(self, batch: Batch) -> int:
        """Run ``batch`` and keep its cells; returns how many there are."""
        import torch

        from ..model import load_model
        from .cells import run_batch
        from .store import keep

        torch.set_num_threads(self.threads)
        model = load_model(self.model)
        if self.device != "cpu":
            model = model.to(self.device)  # pyright: ignore[reportAttributeAccessIssue] - the demo model's own
        size = self.size or (model.side, model.side)
        rows = run_batch(batch.cells, model, size, self.generator, self.device)
        for identity, cell, (row, picture) in zip(batch.identities, batch.cells, rows, strict=True):
            keep(self.folder, identity, cell, row, picture)
        return len(batch.cells)


Spread = Callable[[Work, Sequence[Batch]], Iterator[int]]
"""Runs the batches in any order, and yields how many cells each had, as it is done."""


def in_turn(work: Work, batches: Sequence[Batch]) -> Iterator[int]:
    """In this process."""
    return map(work, batches)


def on_processes(workers: int) -> Spread:
    """On so many processes of this machine."""

    def spread(work: Work, batches: Sequence[Batch]) -> Iterator[int]:
        from joblib import Parallel, delayed, parallel_config
        from joblib.externals.loky.process_executor import TerminatedWorkerError

        left, tries = list(batches), TRIES
        while left:
            done = 0
            try:
                with parallel_config("loky", n_jobs=workers, inner_max_num_threads=work.threads):
                    for cells in Parallel(return_as="generator_unordered")(delayed(work)(batch) for batch in left):
                        done += 1
                        yield cast(int, cells)
                return
            except TerminatedWorkerError as error:
                tries = TRIES if done else tries - 1
                left = _missing(work.folder, left)
                if not tries:
                    raise ValueError(
                        f"workers: a worker was killed {TRIES} times in a row, before it had done anything; what is "
                        "done is kept. It may be memory: use fewer workers, or a smaller batch."
                    ) from error

    return spread


def on_ray(address: str) -> Spread:
    """On the Ray cluster at ``address``; "local" starts one on this machine. Each batch asks for its threads.

    The folder has to be one that all nodes see.
    """

    def spread(work: Work, batches: Sequence[Batch]) -> Iterator[int]:
        import ray  # pyright: ignore[reportMissingImports] - an extra

        ray.init(address=address, log_to_driver=False, ignore_reinit_error=True)
        try:
            options = {"num_cpus": work.threads, "num_gpus": 1 if work.device.startswith("cuda") else 0}
            task = ray.remote(max_retries=TRIES, **options)(_call)
            waiting = [task.remote(work, batch) for batch in batches]
            while waiting:
                (first, *_), waiting = ray.wait(waiting, num_returns=1)
                yield ray.get(first)
        finally:
            ray.shutdown()

    return spread


def _call(work: Work, batch: Batch) -> int:
    return work(batch)


def _missing(folder: Path, batches: Sequence[Batch]) -> list[Batch]:
    from .store import kept

    return [batch for batch in batches if any(kept(folder, identity) is None for identity in batch.identities)]
