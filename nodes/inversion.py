"""DDIM Inversion: a latent to the noise it would have come from, in every form that the stock samplers take."""

from __future__ import annotations

from dataclasses import replace

import torch
from comfy.model_patcher import ModelPatcher
from comfy.samplers import SCHEDULER_NAMES, CFGGuider, calculate_sigmas
from comfy_api.latest import io
from comfy_execution.graph_utils import ExecutionBlocker
from torch import Tensor, nn

from ..msd_core.inversion import INVERSIONS, Trajectory, invert
from ..msd_core.inversion.resample import resample
from ..msd_core.inversion.words import described, inversion_curves
from ..msd_core.randomness import seeded
from ..msd_core.settings import settings_of
from ..msd_core.validation import check_choice
from . import host
from .axis import FLOW_T_MAX, Axis
from .bandwidth import CATEGORY
from .grad import grad_mode, owned
from .guiders import Conditioning, check_latent, make_guider
from .inverted import InvertedNoise, cells_of
from .progress import Progress, tell, to_image
from .schema import FOLDED, schema, seed_input

METHODS = {"explicit": 1, "implicit": 5, "uni-inv": 1, "renoise": 4, "implicit-heun": 10, "implicit-dpmpp-2m": 20}
"""Inversions whose way back is one of the host's samplers, and about how many evaluations a step takes."""
IN_SIGMA = ("implicit-heun", "implicit-dpmpp-2m")
"""Of them, those that are the inverse of steps in z = x0 + σ n alone; Euler's are the same in a flow's coordinates."""


EXACT = "Or edit with DreamSampler Edit by 'direct', which has the picture back at any cfg."
"""In a report's warning, in the place of what Python and the command line offer."""


class DDIMInversion(io.ComfyNode):
    """`msd_core.invert` with the host's model, by explicit steps."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_DDIMInversion",
            display_name="DDIM Inversion",
            category=CATEGORY,
            description="The noise that a picture would have come from. To get the picture back: SamplerCustomAdvanced "
            "with noise, sigmas, the euler sampler and the same model, prompt and cfg; its latent is free.",
            search_aliases=["invert", "inversion", "unsample", "noise from picture"],
            inputs=[
                io.Latent.Input("latent_image", tooltip="The picture, from VAE Encode."),
                io.Model.Input("model", optional=True),
                io.Conditioning.Input("positive", optional=True, tooltip="Best: a prompt that describes the picture."),
                io.Conditioning.Input("negative", optional=True),
                io.Float.Input(
                    "cfg",
                    default=1.0,
                    min=0.0,
                    max=100.0,
                    step=0.1,
                    round=0.01,
                    optional=True,
                    tooltip="1 = no guidance, the accurate setting. Re-sample with the same value.",
                ),
                io.Guider.Input("guider", optional=True, tooltip="Replaces model, positive, negative and cfg."),
                io.Sigmas.Input(
                    "sigmas", optional=True, tooltip="The levels, as for sampling. Replaces steps and scheduler."
                ),
                io.Int.Input(
                    "steps", default=50, min=1, max=10000, optional=True, tooltip="Between the picture and its noise."
                ),
                io.Combo.Input(
                    "scheduler",
                    options=list(SCHEDULER_NAMES),
                    default="normal",
                    optional=True,
                    tooltip="Where the levels lie, as for sampling.",
                ),
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default="explicit",
                    optional=True,
                    tooltip="explicit: one evaluation a step, errors add up. implicit: the inverse of the sampler's "
                    "step, to the tolerance, four to seven evaluations; its picture comes back. uni-inv: better than "
                    "explicit at its price. Sample with euler; with heun or dpmpp_2m after the one of that name.",
                ),
                io.Float.Input(
                    "tolerance",
                    default=1e-5,
                    min=1e-9,
                    max=0.1,
                    step=1e-6,
                    round=False,
                    optional=True,
                    tooltip="Of an implicit method: how far a step may miss. 1e-5 is usual; half precision needs 1e-3.",
                    extra_dict=FOLDED,
                ),
                io.Boolean.Input(
                    "check",
                    default=False,
                    optional=True,
                    tooltip="Walks back down as the sampler will, for the output returned and its PSNR in the report: "
                    "one evaluation a step more, two with heun.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Inverts the white part alone, in whole cells of the latent; the rest stays under drawn "
                    "noise. Sample the output latent, which carries the mask.",
                ),
                seed_input("Of the noise outside of the mask. Without a mask nothing is drawn.", optional=True),
            ],
            outputs=[
                io.Latent.Output(
                    "inverted", display_name="inverted", tooltip="Noisy latent; sample it with DisableNoise."
                ),
                io.Latent.Output(
                    "trajectory", display_name="trajectory", tooltip="All levels as one batch, from the picture up."
                ),
                io.Noise.Output("noise", display_name="noise", tooltip="For SamplerCustomAdvanced."),
                io.Sigmas.Output("sigmas", display_name="sigmas", tooltip="The levels to sample back on."),
                io.String.Output(
                    "report", display_name="report", tooltip="Evaluations, residuals, statistics of the noise."
                ),
                io.Latent.Output("returned", display_name="returned", tooltip="What sampling gives back, with check."),
                io.Image.Output("plot", display_name="plot", tooltip="Residual, level and spread, step by step."),
                io.Latent.Output(
                    "latent", display_name="latent", tooltip="The picture as given, with the mask that noise is for."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        latent_image: dict,
        model: ModelPatcher | None = None,
        positive: Conditioning | None = None,
        negative: Conditioning | None = None,
        cfg: float = 1.0,
        guider: CFGGuider | None = None,
        sigmas: Tensor | None = None,
        steps: int = 50,
        scheduler: str = "normal",
        method: str = "explicit",
        tolerance: float = 1e-5,
        check: bool = False,
        mask: Tensor | None = None,
        seed: int = 0,
    ) -> io.NodeOutput:
        check_choice("method", method, METHODS)
        guider = make_guider(model, positive, negative, cfg, guider)
        sampling = guider.model_patcher.get_model_object("model_sampling")
        axis = Axis.of(sampling)
        levels = own_levels(sampling, axis, scheduler, steps) if sigmas is None else check_levels(sigmas, axis)
        samples = check_latent(latent_image["samples"], guider)
        if axis.flow and method in IN_SIGMA:
            raise ValueError(
                f"method: got {method!r} with a flow model, on which the host's sampler of that name takes other steps "
                "than it inverts; allowed are explicit, implicit, uni-inv and renoise there; choose implicit"
            )
        with grad_mode():
            cells = None if mask is None else cells_of(mask, samples)
        made = INVERSIONS[method]
        inversion = made(tolerance=tolerance) if "tolerance" in settings_of(made) else made()
        down = (2 if method == "implicit-heun" else 1) if check else 0
        progress = Progress((len(levels) - 1) * (METHODS[method] + down))

        def loop(session: host.Session) -> tuple[Trajectory, Tensor | None]:
            x = session.latent_format.process_in(owned(samples, session.device))
            denoiser = replace(session.denoiser, watch=progress.update)
            sigmas_of = axis.sigma(levels).to(session.device)
            trajectory = invert(x, denoiser, sigmas_of, inversion, seeded(seed), cells)
            return trajectory, resample(trajectory, denoiser) if check else None

        height, width = samples.shape[-2:]
        trajectory, back = host.run(guider, loop, height, width, rows=len(samples), pictures=len(samples))
        told = described(trajectory, back, EXACT)
        if latent_image.get("noise_mask") is not None:
            told += "\nThe latent's noise mask plays no part: connect it to mask to invert inside of it."
        tell(cls.hidden.unique_id if cls.hidden else None, told)
        outputs = cls._outputs(trajectory, guider, axis, levels, told, back)
        given = latent_image if cells is None else latent_image | {"noise_mask": cells[:, 0]}
        return io.NodeOutput(*outputs, given)

    @classmethod
    def _outputs(
        cls,
        trajectory: Trajectory,
        guider: CFGGuider,
        axis: Axis,
        levels: Tensor,
        told: str,
        back: Tensor | None,
    ) -> tuple[object, ...]:
        latent_format = guider.model_patcher.get_model_object("latent_format")
        with grad_mode():
            states = latent_format.process_out(trajectory.states.cpu())
            sigma_max = float(guider.model_patcher.get_model_object("model_sampling").sigma_max)
            state, outside = trajectory.states[-1].cpu().clone(), trajectory.outside  # not a view of all states
            if outside is not None:
                outside = type(outside)(outside.x.cpu(), outside.mask.cpu(), outside.noise.cpu())
            noise = InvertedNoise(state, float(levels[0]), sigma_max, axis, latent_format, outside)
            inverted, all_levels = {"samples": states[-1].clone()}, {"samples": states.flatten(0, 1)}
            returned = (
                blocked_without_check(cls) if back is None else {"samples": latent_format.process_out(back.cpu())}
            )
            from ..msd_core.plot import plot_curves

            drawn = to_image(plot_curves(inversion_curves(trajectory)))
            return inverted, all_levels, noise, levels, told, returned, drawn


def blocked_without_check(node: type[io.ComfyNode]) -> ExecutionBlocker:
    """An output that was not asked for; whatever is connected to it says why."""
    return ExecutionBlocker(f"{node.define_schema().display_name}: returned needs check; switch it on.")


def own_levels(sampling: nn.Module, axis: Axis, scheduler: str, steps: int) -> Tensor:
    """The host's levels for `steps` and `scheduler`; of a flow model, those above t = 0.999 are moved there.

    Of equal ones, which some schedulers give and the move makes, one is left.
    """
    with grad_mode():
        levels = calculate_sigmas(sampling, scheduler, steps).cpu().clone()
        levels = levels.clamp(max=axis.level(axis.sigma_max)) if axis.flow else levels
        return levels[levels > torch.cat([levels[1:], levels.new_tensor([-1.0])])]


def check_levels(sigmas: Tensor, axis: Axis) -> Tensor:
    """Refuse levels that do not decrease strictly to 0, or that a flow model cannot be inverted to."""
    with grad_mode():
        levels = owned(sigmas, torch.device("cpu"))
    shown = [round(level, 4) for level in levels.tolist()]
    if len(shown) < 2 or shown[-1] != 0 or not bool((levels[1:] < levels[:-1]).all()):
        raise ValueError(
            f"sigmas: got {shown}; allowed are at least two levels that decrease strictly to 0, as schedulers give "
            "them; connect a scheduler, or leave sigmas empty"
        )
    if axis.flow and bool(levels[0].float() > torch.tensor(FLOW_T_MAX)):  # in float32, as schedulers give it
        raise ValueError(
            f"sigmas: starts at {shown[0]}, where nothing of a flow model's picture is left; allowed is "
            f"at most {FLOW_T_MAX}; set denoise below 1 in the scheduler, or leave sigmas empty"
        )
    return levels


NODES = [DDIMInversion]
