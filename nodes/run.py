"""One step node's work inside the host: walked, shown, kept, and given back as picture and plot."""

from __future__ import annotations

import copy
import json
import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from comfy.samplers import CFGGuider
from comfy.sd import VAE
from comfy_api.latest import io, ui
from torch import Tensor

from ..msd_core.distillation import METHODS
from ..msd_core.distillation.base import needs_of, samples_of
from ..msd_core.memory import check_fits
from ..msd_core.preset import Preset
from ..msd_core.settings import flatten
from . import host
from .about import FORMAT
from .beside import NEGATIVE, SOURCE, cfg_of
from .fits import check_channels, check_latent_format
from .generators import HostGenerator, blocked, render_image, render_latent
from .grad import grad_mode
from .guiders import latent_grid
from .kept import Kept
from .precision import rescued
from .progress import Progress, tell, to_image, wait_until, withdraw_preview
from .room import is_out_of_memory, out_of_memory
from .sides import check_sides, has_sides, look_of
from .vae import check_vae, vae_bytes

if TYPE_CHECKING:
    from ..msd_core.info import Info
    from ..msd_core.model import Model
    from ..msd_core.state import State


@dataclass(frozen=True)
class Run:
    """One step node's work: the iterations of `preset` on a copy of `start`, inside `guider`.

    `kept` is where its state is kept every `every` seconds, and when something stops it; None: nowhere. `mask`
    (B, 1, H, W) says where the picture may change; None: everywhere.
    `source` (B, 3, H, W) is the picture that is edited, for a method that needs it; the guider carries its prompt.
    `numbers` is what is told of the settings while it runs.
    """

    start: HostGenerator
    guider: CFGGuider
    vae: VAE | None
    preset: Preset
    seed: int
    kept: Kept | None = None
    every: float = 0.0
    node_id: str | None = None
    mask: Tensor | None = None
    source: Tensor | None = None
    numbers: str = ""

    def __call__(self, cls: type[io.ComfyNode]) -> io.NodeOutput:
        """Optimise, and return the new generator with its picture and the plot of the run.

        What the run's own figures say against its result is shown in the node, and logged.
        """
        from ..msd_core.symptoms import warning_of

        self._check()
        if self.numbers:
            tell(self.node_id, self.numbers)
            logging.info("%s", self.numbers)

        ended: list[State] = []

        def loop(session: host.Session) -> tuple[HostGenerator, tuple[Info, ...], str]:
            state = self._walk(session)
            ended.append(state)
            warning = warning_of(
                state,
                self.preset,
                session.denoiser.data_std,
                confined=self.mask is not None,
                own_guidance=cfg_of(self.guider) is None,
            )
            made = HostGenerator(state.generator.cpu(), session.latent_format, self._about(state), self._noted())
            return made, state.history, warning

        canvas, pictures = self.start.canvas, self._pictures
        grid, rows = latent_grid(self.guider, canvas), samples_of(self.preset.method) * pictures
        generator, history, warning = host.run(
            self.guider,
            loop,
            *grid,
            vae=self.vae,
            rows=rows,
            pictures=pictures,
            backward=self._backward,
            seed=self.seed,
        )
        try:
            picture = self._picture(generator)
        except BaseException as error:
            self._stopped(ended[-1], ended[-1].step, error)
            raise
        if warning:
            tell(self.node_id, f"warning: {warning}")
            logging.warning("%s", warning)
        if self.kept is not None:
            self.kept.remove()
        if picture is None:
            return io.NodeOutput(
                generator, blocked(cls, "picture", "decode the latent"), plot(history), shifts(history)
            )
        gone = withdraw_preview(self.node_id, picture)
        shown, curves = ui.PreviewImage(picture, cls=cls), plot(history)
        wait_until(gone)
        return io.NodeOutput(generator, picture, curves, shifts(history), ui=shown)

    def _walk(self, session: host.Session) -> State:
        """The last state; on the way each is shown, and kept by time and when it is the last one for now."""
        from ..msd_core.autosave import Autosave
        from ..msd_core.optimize import planned_steps

        total = planned_steps(self.preset.method, self.preset.steps, self.preset.min_bandwidth)
        state = self._first(session)
        progress, began, before = Progress(total, state.step), time.monotonic(), state.step
        keep = Autosave(self._keep, self.every if self.kept else 0)
        try:
            for made in rescued(partial(self._states, session.model()), state, session):
                state = made
                keep(state)
                line = report(state, total, (time.monotonic() - began) / (state.step - before))
                tell(self.node_id, f"{line}\n{self.numbers}" if self.numbers else line)
                progress.update(lambda: self._preview(state, session))  # noqa: B023  (called at once)
        except BaseException as error:
            self._stopped(state, total, error)
            if is_out_of_memory(error):
                raise out_of_memory(state.step, self._size(), self._smaller()) from error
            raise
        return state

    def _states(self, model: Model, state: State) -> Iterator[State]:
        """The states after ``state``."""
        from ..msd_core.distil import run

        prompt = look_of if has_sides(self.guider) else None
        return run(state, self.preset, model, prompt, **self._beside())

    @property
    def _pictures(self) -> int:
        """Pictures that go through the model together, those of a batch or the views of an object."""
        return self.start.generator.views

    @property
    def _backward(self) -> bool:
        """Whether the VAE's encoder is differentiated."""
        return self.preset.pull == "latent" and self.start.generator.space == "image"

    def written(self) -> dict[str, Any]:
        """The settings as the workflow holds them: without a cfg that a guider with a rule of its own does not ask."""
        return self._effective(self.preset.to_json())

    def _effective(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in settings.items() if name != "cfg" or cfg_of(self.guider) is not None}

    def _noted(self) -> dict[str, dict[str, Any]]:
        """What the new generator brings into the workflow of later pictures: the settings of its steps by node."""
        return {**self.start.noted, **({} if self.node_id is None else {self.node_id: self.written()})}

    def _about(self, state: State) -> dict[str, str]:
        """What the new generator says of how it was made."""
        name = METHODS.name_of(self.preset.method)
        settings = json.dumps(self._effective(flatten(self.preset)), ensure_ascii=False)
        return {"method": name, "steps": str(state.step), "seed": str(self.seed), "settings": settings}

    def _beside(self) -> dict[str, Any]:
        """What goes with the model: mask and source, and the names of the conditionings that the guider carries."""
        prompt = None if self.source is None else SOURCE
        negative = NEGATIVE if "negative" in needs_of(self.preset.method) else None
        return {"negative": negative, "mask": self.mask, "source": self.source, "source_prompt": prompt}

    def _first(self, session: host.Session) -> State:
        """The state to begin with: the one that was kept, or a new one. Its file says what Load Generator asks."""
        from ..msd_core.optimize import start

        device, method = session.device, METHODS.name_of(self.preset.method)
        first = start(copy.deepcopy(self.start.generator).to(device), steps=self.preset.steps, seed=self.seed)
        state = (self.kept.load(first, device) if self.kept else None) or first
        return replace(state, metadata={"method": method, FORMAT: type(session.latent_format).__name__})

    def _keep(self, state: State) -> bool:
        """Whether ``state`` could be kept; a folder that cannot be written to stops no run."""
        try:
            if self.kept is not None:
                self.kept.save(state)
        except (OSError, ValueError) as error:
            logging.warning("the state of the step cannot be kept: %s", error)
            return False
        return self.kept is not None

    def _stopped(self, state: State, total: int, error: BaseException) -> None:
        """Keep ``state``, and say where."""
        if self.kept is not None and state.step and self._keep(state):
            place = f"output/{self.kept.name}"
            told = f"stopped after {state.step} of {total} steps; queue the same graph to go on ({place})"
            tell(self.node_id, told)
            logging.info("%s; %s", told, type(error).__name__)

    def _check(self) -> None:
        generator, canvas = self.start.generator, self.start.canvas
        if has_sides(self.guider):
            check_sides(self.guider, generator)
        if generator.space == "image" and self.vae is None:
            raise ValueError(
                f"vae: not connected, and the generator ({generator.kind}) draws an image; connect the model's VAE, or "
                "choose the latent representation in the generator"
            )
        if self.source is not None and self.vae is None:
            raise ValueError("vae: not connected, and the source is a picture; connect the model's VAE")
        if self.vae is not None:
            check_vae(self.vae, self.guider.model_patcher.get_model_object("latent_format"))
            size, latent = (canvas.height, canvas.width), generator.space == "latent"
            needed = vae_bytes(self.vae, *size, backward=self._backward, latent=latent, n=self._pictures)
            fix = "Lower width, height or batch of the generator."
            check_fits("generator", f"{self._size()} through the VAE", needed, fix)
        if generator.space == "latent":
            check_latent_format(self.start.latent_format, self.guider)
            with grad_mode(), torch.no_grad():
                view = canvas.view
                check_channels(generator.render(generator.frame(view.height, view.width)), self.guider)

    def _size(self) -> str:
        """The canvas in words, and how many there are."""
        canvas, rows = self.start.canvas, self.start.generator.rows
        return f"{canvas.width}x{canvas.height}" + (f", {rows} of them," if rows > 1 else "")

    def _smaller(self) -> list[str]:
        """What would take less memory, in words."""
        batch = " or batch" if self.start.generator.rows > 1 else ""
        pull = ["choose the pull 'image', which goes through the VAE without a gradient"] if self._backward else []
        return [f"lower width, height{batch} of the generator", *pull]

    def _preview(self, state: State, session: host.Session) -> Tensor | None:
        """The picture, and beside it what the model wants it to be: of an object, from each of the last views."""
        image = state.generator.space == "image"
        shown = [self._shown(state.picture(), image, session)]
        if state.target is not None:
            shown.append(self._shown(state.target, image and self.preset.pull == "image", session))
        return None if any(part is None for part in shown) else torch.cat(shown)  # pyright: ignore[reportArgumentType]

    def _shown(self, x: Tensor, image: bool, session: host.Session) -> Tensor | None:
        """A picture as it is, a latent decoded, or in rough colours; None where the model has none."""
        if image:
            return x.clamp(0, 1)
        return host.latent_colours(x, session.latent_format) if session.decode is None else session.decode(x)

    def _picture(self, generator: HostGenerator) -> Tensor | None:
        width, height = generator.canvas.width, generator.canvas.height
        if generator.generator.space == "image":
            return render_image(generator, width, height)
        latent = render_latent(generator, width, height)["samples"]
        if self.vae is not None:
            return self.vae.decode(latent).float()
        colours = host.latent_colours(generator.latent_format.process_in(latent), generator.latent_format)
        return None if colours is None else colours.movedim(1, -1)


def report(state: State, total: int, seconds: float) -> str:
    """Step, level, size of the shift, evaluations and the time left, at ``seconds`` a step."""
    info = state.info
    level = f"σ {info.sigma:.3g}" if info.bandwidth is None else f"λ {info.bandwidth:.3g}"
    left = round(seconds * (total - state.step))
    minutes = f"{left // 60}:{left % 60:02}"
    return f"{state.step}/{total}   {level}   |m| {info.norm:.3g}   {state.evaluations} evaluations   {minutes} left"


def shifts(history: Sequence[Info]) -> dict[str, list[float]]:
    """LOSS_MAP of the gradient's length over the steps, for the host's own plot."""
    return {"loss": [info.norm for info in history]}


def plot(history: Sequence[Info]) -> Tensor:
    """IMAGE of the level (λ, or σ where a method has no λ) and of the gradient's length over the steps."""
    from ..msd_core.plot import history_curves, plot_curves

    return to_image(plot_curves(history_curves(history)))
