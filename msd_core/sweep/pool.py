"""Spread the batches of a sweep: over processes of this machine (joblib), or a Ray cluster.

Both run `Work`, which keeps every cell as it is done; so a worker, or all of it, may be killed at any time, and the
next run does what is missing. A batch whose worker died is run again, `TRIES` times. A batch that fails is halved until
what fails is a cell alone: that one is noted, and the rest goes on. What no cell could do without, the model and its
size, ends the sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..echo import shortened
from .grid import Cell

if TYPE_CHECKING:
    from ..model import Model

TRIES = 3


@dataclass(frozen=True)
class Batch:
    """Cells of one setting, and their identities."""

    cells: Sequence[Cell]
    identities: Sequence[str]

    def halves(self) -> tuple[Batch, Batch]:
        """Both halves of it."""
        middle = len(self.cells) // 2
        first, second = slice(middle), slice(middle, None)
        return Batch(self.cells[first], self.identities[first]), Batch(self.cells[second], self.identities[second])


@dataclass(frozen=True)
class Work:
    """What all batches of a sweep share: where to keep them, and what to run them with.

    Attributes:
        folder: of the results.
        model, kind: its file or folder, and what that is; None for the one that ships.
        size, generator: of the pictures; the model's own size if None.
        device, dtype, offload: where and how the model computes, as in `load_model`.
        threads: of a worker.
        digest: of the model's files: a worker that has read others before reads these.
    """

    folder: Path
    model: str | None
    size: tuple[int, int] | None
    generator: str
    device: str
    threads: int
    kind: str = "demo"
    dtype: str | None = None
    offload: str | None = None
    digest: str = ""

    def __call__(self, batch: Batch) -> int:
        """Run ``batch`` and keep its cells, those that do not fail; returns how many there are."""
        import torch

        torch.set_num_threads(self.threads)
        model = _loaded(self.model, self.kind, self.device, self.dtype, self.offload, self.digest)
        size = self.size or (model.side, model.side)
        _check_size(size, model)
        self._run(batch, model, size)
        return len(batch.cells)

    def _run(self, batch: Batch, model: Model, size: tuple[int, int]) -> None:
        from .cells import run_batch
        from .store import keep, note

        try:
            judge = self.kind == "demo"
            rows = run_batch(batch.cells, model, size, self.generator, judge=judge)
        except Exception as error:  # of a method, a generator or a model, which may be another package's
            failed = f"{type(error).__name__}: {shortened(error)}"
        else:
            for identity, cell, (row, picture) in zip(batch.identities, batch.cells, rows, strict=True):
                keep(self.folder, identity, cell, row, picture)
            return
        if len(batch.cells) == 1:
            note(self.folder, batch.identities[0], failed)
            return
        for half in batch.halves():
            self._run(half, model, size)


@lru_cache(maxsize=1)
def _loaded(path: str | None, kind: str, device: str, dtype: str | None, offload: str | None, _digest: str) -> Model:
    """The model, read once a process, for as long as its files are the same."""
    from ..model import load_model

    if kind == "diffusers":
        from ..pipelines.model import quiet

        quiet()
    return load_model(path, kind, device=device, dtype=dtype, offload=offload)


def _check_size(size: tuple[int, int], model: Model) -> None:
    """Refuse a size that is no multiple of what the model works in."""
    step = model.cell * getattr(model, "pairs", 1)
    if any(side % step for side in size):
        nearest = [max(step, round(side / step) * step) for side in size]
        raise ValueError(f"size: got {list(size)}; allowed are multiples of {step} for this model. Write {nearest}.")


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
            gpus = 1 if work.device.startswith("cuda") else 0
            task = ray.remote(max_retries=TRIES, num_cpus=work.threads, num_gpus=gpus)(_call)
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
