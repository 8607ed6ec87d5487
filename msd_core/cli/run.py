"""One distillation: set up or resumed, optimised under a progress bar, and kept whatever ends it."""

from __future__ import annotations

import argparse
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..autosave import Autosave
from ..distil import fitted
from ..distil import run as steps_of
from ..generators import Generator, Vector, View, read_svg
from ..generators.picture import cover
from ..generators.vector.drawing import OWN
from ..memory import check_distillation
from ..model import Model
from ..named import said
from ..optimize import planned_steps, start
from ..state import State
from ..symptoms import warning_of
from ..units import units_of
from ..warm import sample
from .claim import Claim, claimed
from .digests import Digests, digest_of_model
from .models import model_of, path_of_model
from .pictures import read_picture
from .run_folder import RESULTS, Done, every_result, frame_of, is_frame, write_results
from .settings import SAMPLE, Settings, check_unchanged, new_settings
from .signals import Stopped, signals
from .source import check_source, load_source, read_source, save_source
from .unfinished import STATE, check_no_unfinished, load_unfinished, remove_unfinished, save_unfinished


def distill(arguments: argparse.Namespace, folder: Path) -> int:
    """Do the run that ``arguments`` describe; returns the exit status."""
    path = path_of_model(arguments)
    with claimed(folder, every_result()) as claim:
        kept = load_unfinished(folder) if arguments.resume else None
        if not (arguments.resume or arguments.force):
            check_no_unfinished(folder)
            claim.check_foreign("--out")
        model = model_of(arguments, arguments.dtype if kept is None else kept[0].dtype)
        digest = digest_of_model(path, arguments.model_kind, Digests())
        if kept is None:
            settings, done = new_settings(arguments, model, digest), None
            check_source(arguments, settings.preset)
            if arguments.preset is not None:
                numbers = said(settings.preset, units_of(model, *settings.size))
                print(f"msd: {arguments.preset}: {numbers}", file=sys.stderr)
        else:
            settings, done = kept
            check_unchanged(arguments, settings, digest)
        pull, options = settings.preset.pull, settings.options
        check_distillation(settings.generator, *settings.size, model, pull=pull, options=options)
        begin = None
        if settings.start not in ("", SAMPLE) and kept is None:
            begin = Path(arguments.start or arguments.source)
        source = _source(arguments, settings, folder)
        return _end(Run(claim, settings, model, done, again(arguments), begin, source), arguments.checkpoint)


def _source(arguments: argparse.Namespace, settings: Settings, folder: Path) -> Tensor | None:
    """The picture that the run edits, if it edits one: from its file, or as it was kept with the run to resume."""
    if not settings.source:
        return None
    return load_source(folder, settings.size) if arguments.resume else read_source(arguments.source, settings.size)


def again(arguments: argparse.Namespace) -> str:
    """The command that goes on with the run."""
    words = ["msd", "distill", "--resume", "--out", str(arguments.out)]
    if arguments.model is not None:
        words += ["--model", str(arguments.model)]
    if arguments.model_kind != "demo":
        words += ["--model-kind", arguments.model_kind]
    for name in ("device", "offload"):  # its dtype is the run's own
        if getattr(arguments, name) is not None:
            words += [f"--{name}", getattr(arguments, name)]
    return shlex.join(words)


def _end(run: Run, seconds: float) -> int:
    """Do ``run``, and what belongs to the way in which it ends."""
    try:
        run.optimise(seconds)
        signals.shut()
    except Stopped as stop:
        return run.interrupted(stop.status)
    except KeyboardInterrupt:
        return run.interrupted(130)
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        signals.shut()
        raise ValueError(f"{_said(error)} {run.failed()}") from error
    return run.finished()


class Run:
    """A run on its way. ``done`` is replaced after each step, so that an interruption finds the last one whole.

    Args:
        claim: of the run's folder.
        settings, model: what it is a run of.
        done: where it was stopped; None for a new run.
        again: the command that goes on with it.
        begin: file of the picture that a new run starts from, if it does.
        source: (1, 3, H, W), the picture that the run edits, if it does.
    """

    def __init__(
        self,
        claim: Claim,
        settings: Settings,
        model: Model,
        done: Done | None,
        again: str,
        begin: Path | None = None,
        source: Tensor | None = None,
    ) -> None:
        self.claim, self.folder, self.settings, self.model, self.again = claim, claim.folder, settings, model, again
        torch.set_num_threads(settings.threads)
        self.done = self._first(begin) if done is None else replace(done, state=self._on_canvas(done.state))
        self.unsaved = source if done is None else None
        words = settings.prompt, settings.negative
        edited = {} if source is None else {"source": source, "source_prompt": settings.source_prompt}
        self.states = steps_of(self.done.state, settings.preset, model, *words, **edited)
        self.decode = model.decode if settings.generator == "latent" else None

    def _first(self, begin: Path | None) -> Done:
        """A new run at its start: the generator as it is made, fitted to a sample or a picture, or from an SVG."""
        settings, began, before = self.settings, time.monotonic(), 0
        generator = settings.make_generator(self.model)
        if begin is not None and begin.suffix.lower() == ".svg":
            generator = self._from_svg(begin)
        elif settings.start:
            print("msd: fitting the generator to its start", file=sys.stderr)
            width, height = settings.size
            if begin is None:
                words = settings.prompt, settings.negative
                cfg, seed = settings.preset.cfg, settings.seed
                picture, before = sample(self.model, *words, cfg=cfg, seed=seed, width=width, height=height)
            else:
                picture = cover(read_picture(begin), width, height)
            generator = self._fitted(generator, picture)
        state = start(generator, steps=settings.preset.steps, seed=settings.seed)
        return Done(state, {}, time.monotonic() - began, before)

    def _fitted(self, generator: Generator, picture: Tensor) -> Generator:
        """The generator fitted to what the run begins with; an error names the flag that gave that."""
        try:
            return fitted(generator, self.model, picture)
        except ValueError as error:
            flag = "--source" if self.settings.start == self.settings.source else "--start"
            name, _, text = str(error).partition(": ")
            raise ValueError(f"{flag}: {text}" if name == "start" else str(error)) from error

    def _from_svg(self, begin: Path) -> Generator:
        """The shapes of a document on the canvas; how many there are is its own affair."""
        settings = self.settings
        if settings.generator != "vector":
            raise ValueError(
                f"--start: got {begin.name!r} with --generator {settings.generator}; allowed are pictures there. Use "
                "--generator vector."
            )
        try:
            drawing = read_svg(begin.read_bytes())
            options = {name: value for name, value in settings.options.items() if name not in OWN}
            return Vector.of_drawing(drawing, *settings.size, **options)
        except ValueError as error:
            raise ValueError(f"--start: {begin.name!r}: {error}") from error

    def _on_canvas(self, state: State) -> State:
        """The last state of a run to resume, on its canvas, which the file may not know."""
        width, height = self.settings.size
        if state.generator.canvas.view == View(height, width):
            return state
        generator = self.settings.make_generator(self.model)
        generator.load_state_dict(state.generator.state_dict())
        return replace(state, generator=generator)

    def optimise(self, seconds: float) -> None:
        """Walk to the end under a progress bar, saving every ``seconds``, the start included."""
        preset, began, before = self.settings.preset, time.monotonic(), self.done.seconds
        total = planned_steps(preset.method, preset.steps, preset.min_bandwidth)
        keep = Autosave(self._save, seconds)
        if seconds > 0:
            self._save(self.done)
        with tqdm(self.states, desc=self.settings.method, initial=self.done.state.step, total=total) as bar:
            for state in bar:
                frames = self.done.frames
                if is_frame(state.step, total):
                    frames = frames | {state.step: frame_of(self.settings, state, self.decode)}
                self.done = Done(state, frames, before + time.monotonic() - began, self.done.before)
                keep(self.done)
                bar.set_postfix_str(_report(self.done), refresh=False)

    def _save(self, done: Done) -> None:
        with signals.held():
            if self.unsaved is not None:
                save_source(self.folder, self.unsaved)
                self.unsaved = None
            save_unfinished(self.folder, self.settings, done)

    def finished(self) -> int:
        """Write the results, and only then remove what `--resume` needs; exit status 0."""
        try:
            self._save(self.done)
            warning = self._warning()
            self._write(finished=True, warning=warning)
        except (OSError, ValueError) as error:
            raise ValueError(f"{_said(error)} {self._kept('Make room, and let it write the results')}") from error
        remove_unfinished(self.folder)
        print(f"{self.folder / 'picture.png'}: {self._told()}")
        if warning:
            print(f"msd: warning: {warning}", file=sys.stderr)
        return 0

    def _warning(self) -> str:
        """What the run's own figures say against its result; "" if nothing."""
        units = units_of(self.model, *self.settings.size)
        return warning_of(self.done.state, self.settings.preset, units.data_std)

    def interrupted(self, status: int) -> int:
        """Keep what was done for `--resume`; returns the exit status."""
        if self.done.state.step == 0:
            print(f"msd: stopped before the end of the first step; {self._start_kept()}", file=sys.stderr)
            return status
        try:
            self._save(self.done)
            self._write(finished=False)
        except (OSError, ValueError) as error:
            raise ValueError(f"{_said(error)} {self._kept('Make room, and go on')}") from error
        told = f"stopped after {self._told()}. Kept in {self.folder}; go on with: {self.again}"
        print(f"msd: {told}", file=sys.stderr)
        return status

    def failed(self) -> str:
        """Keep what was done up to the last good step; says where it is."""
        if self.done.state.step == 0:
            return f"No step was finished; {self._start_kept()}."
        try:
            self._save(self.done)
            self._write(finished=False)
        except (OSError, ValueError):
            return self._kept("Once it can be written to, go on")
        return f"What was done is in {self.folder}: {self._told()}; try the next step again with: {self.again}"

    def _start_kept(self) -> str:
        """What is kept of a run without a step: a start that was sampled or fitted, which took a while; in words."""
        if self.settings.start and (self.folder / STATE).is_file():
            return f"its start is kept in {self.folder}; go on with: {self.again}"
        remove_unfinished(self.folder)
        return "nothing to keep"

    def _kept(self, purpose: str) -> str:
        """What the folder holds when it could not be written to."""
        if not (self.folder / STATE).is_file():
            return "Nothing is kept."
        step = load_unfinished(self.folder)[1].state.step
        return f"The run up to step {step} is in {self.folder}. {purpose} with: {self.again}"

    def _write(self, *, finished: bool, warning: str = "") -> None:
        write_results(self.folder, self.settings, self.done, self.decode, finished=finished, warning=warning)
        self.claim.record((*RESULTS, *self.done.state.generator.files))

    def _told(self) -> str:
        state = self.done.state
        return f"{state.step} of {state.steps} steps, {self.done.evaluations} evaluations, {self.done.seconds:.1f} s"


def _said(error: Exception) -> str:
    """The error's own words, and its kind where that says more."""
    if isinstance(error, ValueError):
        return str(error)
    text = " ".join(str(error).split()) or "no more memory"
    return f"{type(error).__name__}: {text[:500]}."


def _report(done: Done) -> str:
    """Level, norm and evaluations for the progress bar."""
    info = done.state.info
    level = f"σ {info.sigma:.3g}" if info.bandwidth is None else f"λ {info.bandwidth:.3g}"
    return f"{level}, |m| {info.norm:.3g}, {done.evaluations} evaluations"
