"""One distillation: set up or resumed, optimised under a progress bar, and kept whatever ends it."""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ..demo.model import DEMO_MODEL_PATH
from ..distil import run as steps_of
from ..model import Model, load_model
from ..optimize import planned_steps, start
from ..state import State
from .run_folder import (
    Done,
    check_no_unfinished,
    frame_of,
    is_frame,
    load_unfinished,
    remove_unfinished,
    save_unfinished,
    write_results,
)
from .settings import Settings, check_unchanged, digest_of, new_settings


def distill(arguments: argparse.Namespace, folder: Path) -> int:
    """Do the run that ``arguments`` describe; returns the exit status."""
    path = arguments.model or DEMO_MODEL_PATH
    model = load_model(path)
    if arguments.resume:
        settings, done = load_unfinished(folder)
        check_unchanged(arguments, settings, digest_of(path))
    else:
        check_no_unfinished(folder)
        settings, done = new_settings(arguments, model, digest_of(path)), None
    run = Run(folder, settings, model, done)
    try:
        run.optimise()
    except KeyboardInterrupt:
        return run.interrupted()
    except ValueError as error:
        raise ValueError(f"{error} {run.failed()}") from error
    return run.finished()


class Run:
    """A run on its way. ``done`` is replaced after each step, so that an interruption finds the last one whole."""

    def __init__(self, folder: Path, settings: Settings, model: Model, done: Done | None) -> None:
        self.folder, self.settings, self.model, self.done = folder, settings, model, done
        self.before = 0.0 if done is None else done.seconds
        self.states = steps_of(self._first(), settings.preset, model, settings.prompt, settings.negative)
        self.decode = model.decode if settings.generator == "latent" else None

    def _first(self) -> State:
        """The state to start from: that of a new run, or the last one that was done."""
        settings, generator = self.settings, self.settings.make_generator(self.model)
        if self.done is None:
            return start(generator, steps=settings.preset.steps, seed=settings.seed)
        generator.load_state_dict(self.done.state.generator.state_dict())  # its file may not know the canvas
        return replace(self.done.state, generator=generator)

    def optimise(self) -> None:
        """Walk to the end under a progress bar."""
        preset, began = self.settings.preset, time.monotonic()
        total = planned_steps(preset.method, preset.steps, preset.min_bandwidth)
        done = self.done.state.step if self.done else 0
        with tqdm(self.states, desc=self.settings.method, initial=done, total=total) as bar:
            for state in bar:
                frames = dict(self.done.frames) if self.done else {}
                if is_frame(state.step, total):
                    frames[state.step] = frame_of(self.settings, state, self.decode)
                self.done = Done(state, frames, self.before + time.monotonic() - began)
                bar.set_postfix_str(_report(state), refresh=False)

    def finished(self) -> int:
        """Write the results; exit status 0."""
        self._write(finished=True)
        remove_unfinished(self.folder)
        print(f"{self.folder / 'picture.png'}: {self._told()}")
        return 0

    def interrupted(self) -> int:
        """Keep what was done for `--resume`; exit status 130."""
        if self.done is None:
            print("msd: stopped before the end of the first step; nothing to keep", file=sys.stderr)
            return 130
        save_unfinished(self.folder, self.settings, self.done)
        self._write(finished=False)
        again = f"msd distill --resume --out {self.folder}"
        print(f"msd: stopped after {self._told()}. Kept in {self.folder}; go on with: {again}", file=sys.stderr)
        return 130

    def failed(self) -> str:
        """Write the results up to the last good step; says where they are."""
        if self.done is None:
            return "No step was finished, nothing was written."
        self._write(finished=False)
        return f"What was done is in {self.folder}: {self._told()}."

    def _write(self, *, finished: bool) -> None:
        if self.done is not None:
            write_results(self.folder, self.settings, self.done, self.decode, finished=finished)

    def _told(self) -> str:
        if self.done is None:
            return "no steps"
        state = self.done.state
        return f"{state.step} of {state.steps} steps, {state.evaluations} evaluations, {self.done.seconds:.1f} s"


def _report(state: State) -> str:
    """Level, norm and evaluations for the progress bar."""
    info = state.info
    level = f"σ {info.sigma:.3g}" if info.bandwidth is None else f"λ {info.bandwidth:.3g}"
    return f"{level}, |m| {info.norm:.3g}, {state.evaluations} evaluations"
