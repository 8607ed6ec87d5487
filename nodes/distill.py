"""Mean-Shift Distill Step and SDS Step: many iterations of one method, inside the host's guider."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider
from comfy.sd import VAE
from comfy_api.latest import io, ui
from torch import Tensor

from ..msd_core.distillation import ANNEALINGS, CENTRES, MSD, SDS, WEIGHTINGS, Method
from ..msd_core.info import Info
from ..msd_core.mean_shift import ESTIMATORS
from ..msd_core.optimize import OPTIMIZERS, OptimizerConfig, State, optimize
from ..msd_core.plot import history_curves, plot_curves
from ..msd_core.presets import PULLS, MSDPreset, SDSPreset
from ..msd_core.sampling import SOLVERS
from . import host
from .bandwidth import CATEGORY, spread
from .generators import LATENT_CELL, GeneratorSocket, HostGenerator, blocked, render_image, render_latent
from .progress import Progress, to_image

MSD_DEFAULTS, SDS_DEFAULTS = MSDPreset(), SDSPreset()


@dataclass(frozen=True)
class Run:
    """One step node's work: `steps` iterations on a copy of `start`, inside `guider`."""

    start: HostGenerator
    guider: CFGGuider
    vae: VAE | None
    steps: int
    seed: int
    pull: str

    def __call__(
        self,
        cls: type[io.ComfyNode],
        make_method: Callable[[host.Session], Method],
        optimizer: OptimizerConfig,
        rows: int = 1,
    ) -> io.NodeOutput:
        """Optimise, and return the new generator with its picture and the plot of the run."""
        self._check()
        progress = Progress(self.steps)

        def loop(session: host.Session) -> tuple[HostGenerator, tuple[Info, ...]]:
            for state in self._states(session, make_method(session), optimizer):
                progress.update(lambda: self._preview(state, session))  # noqa: B023  (called at once)
            made = replace(self.start, generator=state.generator.cpu(), latent_format=session.latent_format)
            return made, state.history

        grid = self.start.height // LATENT_CELL, self.start.width // LATENT_CELL
        generator, history = host.run(self.guider, loop, *grid, vae=self.vae, rows=rows, seed=self.seed)
        picture = self._picture(generator)
        if picture is None:
            return io.NodeOutput(generator, blocked(cls, "picture", "decode the latent"), plot(history))
        return io.NodeOutput(generator, picture, plot(history), ui=ui.PreviewImage(picture, cls=cls))

    def _states(self, session: host.Session, method: Method, optimizer: OptimizerConfig) -> Iterator[State]:
        image = self.start.generator.space == "image"
        return optimize(
            copy.deepcopy(self.start.generator).to(session.device),
            method,
            session.denoiser,
            size=self.start.grid,
            steps=self.steps,
            seed=self.seed,
            optimizer=optimizer,
            encode=session.encode if image else None,
            decode=session.decode if image and self.pull == "image" else None,
        )

    def _check(self) -> None:
        generator = self.start.generator
        if generator.space == "image" and self.vae is None:
            raise ValueError(
                f"vae: not connected, and the generator ({generator.kind}) draws an image; connect the model's VAE, or "
                "choose the latent representation in the generator"
            )
        if generator.space == "latent":
            with host.grad_mode(), torch.no_grad():
                host.check_latent(generator.render(*self.start.grid), self.guider)

    def _preview(self, state: State, session: host.Session) -> Tensor | None:
        with torch.no_grad():
            x = state.generator.render(*self.start.grid)
        if self.start.generator.space == "image":
            return x
        return host.latent_colours(x, session.latent_format) if session.decode is None else session.decode(x)

    def _picture(self, generator: HostGenerator) -> Tensor | None:
        if generator.generator.space == "image":
            return render_image(generator, generator.width, generator.height)
        latent = render_latent(generator, generator.width, generator.height)["samples"]
        if self.vae is not None:
            return self.vae.decode(latent)
        colours = host.latent_colours(generator.latent_format.process_in(latent), generator.latent_format)
        return None if colours is None else colours.movedim(1, -1)


def plot(history: Sequence[Info]) -> Tensor:
    """IMAGE of the level (λ, or σ where a method has no λ) and of the gradient's length over the steps."""
    return to_image(plot_curves(history_curves(history)))


def common_widgets(defaults: MSDPreset | SDSPreset) -> list[io.Input]:
    """What every step node begins with."""
    return [
        GeneratorSocket.Input("generator", tooltip="Not changed: the node returns a new one."),
        io.Int.Input("steps", default=defaults.steps, min=1, max=100000, tooltip="Iterations."),
        io.Int.Input("seed", default=0, min=0, max=2**63 - 1, tooltip="Of the noise. The same seed, the same picture."),
        io.Float.Input(
            "cfg",
            default=defaults.cfg,
            min=0.0,
            max=200.0,
            step=0.1,
            round=0.01,
            tooltip="Guidance, uncond + cfg (cond − uncond): 1 = none. Not used when a guider is connected.",
        ),
        io.Float.Input(
            "learning_rate",
            default=defaults.lr,
            min=1e-6,
            max=10.0,
            step=0.001,
            round=False,
            tooltip="adam: of the parameters. gd: the share of the shift that the picture moves by.",
        ),
        io.Combo.Input(
            "optimizer",
            options=list(OPTIMIZERS),
            default=defaults.optimizer,
            tooltip="adam rescales every gradient to full steps; gd (gradient descent) keeps its scale.",
        ),
    ]


def pull_widget(default: str) -> io.Input:
    """What the gradient acts on; appended to the node's inputs."""
    return io.Combo.Input(
        "pull",
        options=list(PULLS),
        default=default,
        optional=True,
        tooltip="image: the picture is pulled towards the decoded target, without a gradient through the VAE. latent: "
        "as in the paper, through the VAE's encoder. The same for a latent generator.",
    )


def sockets() -> list[io.Input]:
    """The host's objects, all optional: a guider replaces the first three, a latent generator needs no VAE."""
    return [
        io.Model.Input("model", optional=True),
        io.Conditioning.Input("positive", optional=True),
        io.Conditioning.Input("negative", optional=True, tooltip="May stay empty at cfg 1."),
        io.Vae.Input("vae", optional=True, tooltip="Needed unless the generator is a latent."),
        io.Guider.Input("guider", optional=True, tooltip="Replaces model, positive, negative and cfg."),
    ]


def outputs() -> list[io.Output]:
    """What every step node gives."""
    return [
        GeneratorSocket.Output("generator", display_name="generator"),
        io.Image.Output("picture", display_name="picture", tooltip="At the size of the optimisation."),
        io.Image.Output("plot", display_name="plot", tooltip="The level and the size of the shift, step by step."),
    ]


class MeanShiftDistillStep(io.ComfyNode):
    """`msd_core.distillation.MSD` inside the host."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = MSD_DEFAULTS
        return io.Schema(
            node_id="MSD_MeanShiftDistillStep",
            display_name="Mean-Shift Distill Step",
            category=CATEGORY,
            description="Moves a generator's picture to a mode of the model's distribution: mean shift under a kernel "
            "whose bandwidth λ falls (Mean-Shift Distillation).",
            is_output_node=True,
            inputs=[
                *common_widgets(defaults),
                io.Combo.Input(
                    "estimator",
                    options=list(ESTIMATORS),
                    default=defaults.estimator,
                    tooltip="Of the mean shift. exact: draws from the product density; split: the paper's; one-step: a "
                    "single evaluation; naive: Eq. 12, unstable.",
                ),
                io.Combo.Input(
                    "solver",
                    options=list(SOLVERS),
                    default=defaults.solver,
                    tooltip="Of the sampling ODE: heun is of second order, at twice the evaluations.",
                ),
                io.Int.Input(
                    "solver_steps",
                    default=defaults.solver_steps,
                    min=1,
                    max=1000,
                    tooltip="Levels of one draw: the evaluations an iteration. Not used by one-step.",
                ),
                io.Int.Input(
                    "samples",
                    default=defaults.samples,
                    min=1,
                    max=256,
                    tooltip="Draws an iteration, averaged, evaluated as one batch.",
                ),
                *sockets(),
                io.Sigmas.Input(
                    "bandwidths",
                    optional=True,
                    tooltip="From a Bandwidth Scheduler; the curve is spread over the steps. Without it: that node's "
                    "defaults.",
                ),
                io.Boolean.Input(
                    "antithetic",
                    default=defaults.antithetic,
                    optional=True,
                    tooltip="Draw the noise in pairs of opposite sign; samples must be even.",
                ),
                io.Combo.Input(
                    "centre",
                    options=list(CENTRES),
                    default=defaults.centre,
                    optional=True,
                    tooltip="Of the kernel: the picture x, or its DDIM inversion at each level (not with exact).",
                ),
                io.Float.Input(
                    "truncation",
                    default=defaults.truncation or 0.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=False,
                    optional=True,
                    tooltip="split only: start at the largest σ up to this many λ, saving the steps above; 2 is safe, "
                    "0 = off.",
                ),
                io.Float.Input(
                    "lr_coupling",
                    default=defaults.lr_coupling or 0.0,
                    min=0.0,
                    max=1000.0,
                    step=0.1,
                    round=False,
                    optional=True,
                    tooltip="Below this λ the learning rate falls with λ; 0 = off.",
                ),
                pull_widget(defaults.pull),
            ],
            outputs=outputs(),
        )

    @classmethod
    def execute(
        cls,
        generator: HostGenerator,
        steps: int,
        seed: int,
        cfg: float,
        learning_rate: float,
        optimizer: str,
        estimator: str,
        solver: str,
        solver_steps: int,
        samples: int,
        model: ModelPatcher | None = None,
        positive: host.Conditioning | None = None,
        negative: host.Conditioning | None = None,
        vae: VAE | None = None,
        guider: CFGGuider | None = None,
        bandwidths: Tensor | None = None,
        antithetic: bool = MSD_DEFAULTS.antithetic,
        centre: str = MSD_DEFAULTS.centre,
        truncation: float = MSD_DEFAULTS.truncation or 0.0,
        lr_coupling: float = MSD_DEFAULTS.lr_coupling or 0.0,
        pull: str = MSD_DEFAULTS.pull,
    ) -> io.NodeOutput:
        method = MSD(
            bandwidths=default_bandwidths(steps) if bandwidths is None else spread(bandwidths, steps),
            estimator=estimator,
            solver=solver,
            solver_steps=solver_steps,
            samples=samples,
            antithetic=antithetic,
            centre=centre,
            truncation=truncation or None,
        )
        run = Run(generator, host.make_guider(model, positive, negative, cfg, guider), vae, steps, seed, pull)
        return run(
            cls,
            lambda _: method,
            OptimizerConfig(optimizer, learning_rate, lr_coupling=lr_coupling or None),
            rows=samples,
        )


def default_bandwidths(steps: int) -> Tensor:
    """λ of a run without a Bandwidth Scheduler: the preset's."""
    with host.grad_mode():
        return replace(MSD_DEFAULTS, steps=steps).bandwidths()


class SDSStep(io.ComfyNode):
    """`msd_core.distillation.SDS` inside the host."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        defaults = SDS_DEFAULTS
        return io.Schema(
            node_id="MSD_SDSStep",
            display_name="SDS Step",
            category=CATEGORY,
            description="Moves a generator's picture by Score Distillation Sampling: one evaluation an iteration.",
            is_output_node=True,
            inputs=[
                *common_widgets(defaults),
                io.Combo.Input(
                    "weighting",
                    options=list(WEIGHTINGS),
                    default=defaults.weighting,
                    tooltip="Of the gradient: uniform 1, sigma 1 − ᾱ, dreamfusion √ᾱ (1 − ᾱ).",
                ),
                io.Combo.Input(
                    "anneal",
                    options=list(ANNEALINGS),
                    default=defaults.anneal,
                    tooltip="How the highest noise falls over the run.",
                ),
                io.Float.Input(
                    "t_min", default=defaults.t_min, min=0.0, max=1.0, step=0.01, tooltip="Lowest noise, 0 to 1."
                ),
                io.Float.Input(
                    "t_max", default=defaults.t_max, min=0.0, max=1.0, step=0.01, tooltip="Highest noise, 0 to 1."
                ),
                *sockets(),
                pull_widget(defaults.pull),
            ],
            outputs=outputs(),
        )

    @classmethod
    def execute(
        cls,
        generator: HostGenerator,
        steps: int,
        seed: int,
        cfg: float,
        learning_rate: float,
        optimizer: str,
        weighting: str,
        anneal: str,
        t_min: float,
        t_max: float,
        model: ModelPatcher | None = None,
        positive: host.Conditioning | None = None,
        negative: host.Conditioning | None = None,
        vae: VAE | None = None,
        guider: CFGGuider | None = None,
        pull: str = SDS_DEFAULTS.pull,
    ) -> io.NodeOutput:
        def method(session: host.Session) -> SDS:
            return SDS(session.percent_to_sigma, weighting, t_min, t_max, anneal)

        run = Run(generator, host.make_guider(model, positive, negative, cfg, guider), vae, steps, seed, pull)
        return run(cls, method, OptimizerConfig(optimizer, learning_rate))
