"""One distillation: set up or resumed, optimised under a progress bar, and kept whatever ends it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from ..demo.model import DEMO_MODEL_PATH, DemoModel, load_demo_model
from ..optimize import State, optimize
from .run_folder import (
    Progress,
    check_no_unfinished,
    frame_of,
    is_frame,
    load_unfinished,
    remove_unfinished,
    save_unfinished,
    write_results,
)
from .settings import Settings, check_unchanged, digest, new_settings


def distill(arguments: argparse.Namespace, folder: Path) -> int:
    """Do the run that ``arguments`` describe; returns the exit status."""
    path = arguments.model or DEMO_MODEL_PATH
    model = load_demo_model(path)
    if arguments.resume:
        settings, progress = load_unfinished(folder)
        check_unchanged(arguments, settings, digest(path))
    else:
        check_no_unfinished(folder)
        settings, progress = new_settings(arguments, digest(path)), None
    run = Run(folder, settings, model, progress)
    try:
        run.optimise()
    except KeyboardInterrupt:
        return run.interrupted()
    except ValueError as error:
        raise ValueError(f"{error} {run.failed()}") from error
    return run.finished()


class Run:
    """A run on its way. ``progress`` is replaced after each step, so that an interruption finds the last one whole."""

    def __init__(self, folder: Path, settings: Settings, model: DemoModel, progress: Progress | None) -> None:
        self.folder, self.settings, self.model, self.progress = folder, settings, model, progress
        self.decode = model.decode if settings.generator == "latent" else None
        self.before = 0.0 if progress is None else progress.seconds
        self.states = self._states()

    def _states(self) -> Iterator[State]:
        """The optimisation, from the start or from ``progress``."""
        settings, preset = self.settings, self.settings.preset
        state = None if self.progress is None else self.progress.state
        generator = settings.make_generator()
        image = generator.space == "image"
        return optimize(
            generator if state is None else None,
            preset.method(self.model.schedule),
            self.model.denoiser(settings.prompt, settings.negative, preset.cfg),
            size=settings.grid(),
            steps=preset.steps,
            seed=settings.seed,
            optimizer=preset.optimizer_config(),
            encode=self.model.encode if image else None,
            decode=self.model.decode if image and preset.pull == "image" else None,
            state=state,
            min_bandwidth=getattr(preset, "min_bandwidth", None),
        )

    def optimise(self) -> None:
        """Walk to the end under a progress bar."""
        start, total = time.monotonic(), self.settings.preset.planned_steps()
        done = self.progress.state.step if self.progress else 0
        with tqdm(self.states, desc=self.settings.method, initial=done, total=total) as bar:
            for state in bar:
                frames = dict(self.progress.frames) if self.progress else {}
                if is_frame(state.step, total):
                    frames[state.step] = frame_of(self.settings, state, self.decode)
                self.progress = Progress(state, frames, self.before + time.monotonic() - start)
                bar.set_postfix_str(_report(state), refresh=False)

    def finished(self) -> int:
        """Write the results; exit status 0."""
        self._write(finished=True)
        remove_unfinished(self.folder)
        print(f"{self.folder / 'picture.png'}: {self._done()}")
        return 0

    def interrupted(self) -> int:
        """Keep what was done for `--resume`; exit status 130."""
        if self.progress is None:
            print("msd: stopped before the end of the first step; nothing to keep", file=sys.stderr)
            return 130
        save_unfinished(self.folder, self.settings, self.progress)
        self._write(finished=False)
        again = f"msd distill --resume --out {self.folder}"
        print(f"msd: stopped after {self._done()}. Kept in {self.folder}; go on with: {again}", file=sys.stderr)
        return 130

    def failed(self) -> str:
        """Write the results up to the last good step; says where they are."""
        if self.progress is None:
            return "No step was finished, nothing was written."
        self._write(finished=False)
        return f"What was done is in {self.folder}: {self._done()}."

    def _write(self, *, finished: bool) -> None:
        if self.progress is not None:
            write_results(self.folder, self.settings, self.progress, self.decode, finished=finished)

    def _done(self) -> str:
        if self.progress is None:
            return "no steps"
        state = self.progress.state
        return f"{state.step} of {state.steps} steps, {state.evaluations} evaluations, {self.progress.seconds:.1f} s"


def _report(state: State) -> str:
    """Level, norm and evaluations for the progress bar."""
    info = state.info
    level = f"σ {info.sigma:.3g}" if info.bandwidth is None else f"λ {info.bandwidth:.3g}"
    return f"{level}, |m| {info.norm:.3g}, {state.evaluations} evaluations"
