"""The step nodes: many iterations of one method inside the host's guider, a node for every method that is registered.

A step's widgets are the method's own fields and those of a run (`Preset`). The two oldest nodes keep the order that
saved graphs know; whatever is new follows at the end.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider
from comfy.sd import VAE
from comfy_api.latest import io
from torch import Tensor

from ..msd_core.bandwidth import Listed
from ..msd_core.distillation import METHODS
from ..msd_core.distillation.base import needs_of
from ..msd_core.mean_shift.exact import Exact
from ..msd_core.preset import Preset, preset_of
from ..msd_core.settings import Setting, build, flatten, leaves, settings_of
from .bandwidth import CATEGORY, spread
from .beside import carrying, cfg_of
from .fits import check_conditioning
from .generators import GeneratorSocket, HostGenerator
from .grad import grad_mode
from .guiders import Conditioning, make_guider
from .inputs import mask_for, source_for
from .kept import EVERY, kept_for
from .named import DEFAULT, menu, note, of_name, told
from .run import Run
from .schema import FOLDED, schema, seed_input
from .widgets import default_of, value_of, widget

LEARNING_RATE = "learning_rate"
"""What the widget of the setting `lr` is called."""

RUN = ("steps", "seed", "cfg", "lr", "optimizer")
OF_THE_KERNEL = ("lr_coupling", "min_bandwidth")
"""Settings of a run that only a method with bandwidths has a use for."""

ORDER: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "MSD_MeanShiftDistillStep": (
        ("estimator", "solver", "solver_steps", "samples"),
        ("antithetic", "centre", "truncation", "lr_coupling", "pull"),
    ),
    "MSD_SDSStep": (("weighting", "anneal", "t_min", "t_max"), ("pull",)),
}
"""By node: the settings after those of `RUN`, and the first of those after the sockets."""

ADDED = ("walk_from",)
"""Settings that came after graphs had been saved: their widgets are the last ones."""

IGNORED = {entry.flag for entry in settings_of(Exact).values()}
"""Options of the walk, which stand in a node for all estimators, and mean nothing for one without them."""

SEED = seed_input("Of the noise. The same seed, the same picture.", 2**63 - 1)

CHECKPOINT = io.Float.Input(
    EVERY,
    default=10.0,
    min=0.0,
    max=3600.0,
    step=1.0,
    round=False,
    optional=True,
    tooltip="Seconds between two savings. After Cancel, an error or a crash the same graph goes on from there. 0: "
    "nothing is kept, and every run starts anew.",
    extra_dict=FOLDED,
)


MASK = io.Mask.Input(
    "mask",
    optional=True,
    tooltip="White: where the picture may change; grey: less. One, or one a picture of a batch. Outside, a neural "
    "image is held to what it began with; pixels and latents stay to the bit.",
)


RUNNING = "The node tells the numbers as it runs. By hand: every widget as it stands."


BESIDE: dict[str, tuple[io.Input, ...]] = {
    "source": (
        io.Image.Input("source", optional=True, tooltip="The picture that is edited, in the size of the generator."),
        io.Conditioning.Input("source_positive", optional=True, tooltip="The prompt that describes the source."),
    ),
    "negative": (
        io.Conditioning.Input(
            "unconditional",
            optional=True,
            tooltip="The empty prompt, which cfg is against; negative says what a bad picture is.",
        ),
    ),
}
"""By what a method needs beside its model: the sockets that bring it."""


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
        io.LossMap.Output("shifts", display_name="shifts", tooltip="The size of the shift, for Plot Loss Graph."),
    ]


def has_presets(name: str) -> bool:
    """Whether there are settings of a method by name."""
    return name == "msd"


def has_bandwidths(method: type) -> bool:
    """Whether a method has a kernel whose bandwidth falls: its curve comes from a Bandwidth Scheduler."""
    return "bandwidths" in settings_of(method)


def step_settings(name: str) -> dict[str, Setting]:
    """The settings of a step by plain name: of the run, with the method's defaults, and of the method but its curve."""
    method, usual = METHODS[name], preset_of(name)
    kernel, as_made = has_bandwidths(method), flatten(usual)
    found = {
        flag: replace(entry, default=getattr(usual, flag))
        for flag, entry in settings_of(Preset).items()
        if flag != "method" and (kernel or flag not in OF_THE_KERNEL)
    }
    for flag, entry in leaves(method):
        if not entry.hidden and flag not in found and not flag.startswith("bandwidth_"):
            same = entry.family is not None or flag not in as_made
            found[flag] = entry if same else replace(entry, default=as_made[flag])
    return found


def widget_id(name: str) -> str:
    """What the widget of a setting is called."""
    return LEARNING_RATE if name == "lr" else name


def step_inputs(name: str, node_id: str) -> list[io.Input]:
    """The inputs of a method's step, in the order of the module docstring."""
    known = step_settings(name)
    plain = [flag for flag, entry in known.items() if flag not in RUN and not entry.expert and flag != "pull"]
    first, later = ORDER.get(node_id, (tuple(plain), ("pull",)))
    rest = [flag for flag in known if flag not in (*RUN, *first, *later, *ADDED)]
    run = [SEED if flag == "seed" else widget(known[flag], widget_id(flag)) for flag in RUN]
    curve = io.Sigmas.Input(
        "bandwidths",
        optional=True,
        tooltip="From a Bandwidth Scheduler; the curve is spread over the steps. Without it: that node's defaults.",
    )
    return [
        GeneratorSocket.Input("generator", tooltip="Not changed: the node returns a new one."),
        *run,
        *(widget(known[flag], flag) for flag in first),
        *sockets(),
        *([curve] if has_bandwidths(METHODS[name]) else []),
        *(widget(known[flag], flag, optional=True) for flag in (*later, *rest)),
        CHECKPOINT,
        MASK,
        *(socket for need in needs_of(METHODS[name]) for socket in BESIDE[need]),
        *([menu("Settings by name, in the units of the model.", RUNNING, DEFAULT)] if has_presets(name) else []),
        *(widget(known[flag], flag, optional=True) for flag in ADDED if flag in known),
    ]


def step_preset(
    name: str, widgets: Mapping[str, Any], bandwidths: Tensor | None = None, usual: Preset | None = None
) -> Preset:
    """The preset of a method with what the step's widgets say, and with the curve that is connected.

    ``usual`` is what a preset's name stands for: it is changed by widgets that are not as the node was made.

    Raises:
        ValueError: for a value that is not allowed, or an option that the chosen estimator does not know.
    """
    known = step_settings(name)
    given = {flag: widgets[widget_id(flag)] for flag in known if widget_id(flag) in widgets}
    if usual is not None:
        given = {flag: raw for flag, raw in given.items() if raw != default_of(known[flag])}
    options = {flag: value_of(known[flag], flag, raw) for flag, raw in given.items()}
    base = usual or preset_of(name)
    families = {flag: options.pop(flag) for flag in list(options) if known[flag].family is not None}
    base = build(base, families)
    if bandwidths is not None:
        curve = spread(bandwidths, options.get("steps", base.steps))
        base = build(base, {"bandwidth_schedule": Listed(tuple(curve.tolist()))})
    used = flatten(base)
    for flag in [flag for flag in options if flag not in used]:
        if flag in IGNORED or options[flag] == known[flag].default:
            del options[flag]
    try:
        return build(base, options)
    except ValueError as error:  # a widget is always there: what is not to be said stands as it was made
        raise ValueError(str(error).replace("Leave it out", "Set its widget back")) from error


class StepNode(io.ComfyNode):
    """A step of the method called ``method``; `step_node` makes one for each."""

    method: ClassVar[str]
    node_id: ClassVar[str]

    @classmethod
    def define_schema(cls) -> io.Schema:
        kind = METHODS[cls.method]
        described = (inspect.getdoc(kind) or kind.__name__).split("\n\n")[0].replace("\n", " ")
        return schema(
            node_id=cls.node_id,
            display_name=f"{label_of(cls.method)} Step",
            category=CATEGORY,
            description=f"Moves a generator's picture. {described}",
            is_output_node=True,
            search_aliases=aliases(cls.method),
            inputs=step_inputs(cls.method, cls.node_id),
            outputs=outputs(),
            hidden=[io.Hidden.unique_id, io.Hidden.dynprompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    def execute(
        cls,
        generator: HostGenerator,
        seed: int,
        cfg: float,
        model: ModelPatcher | None = None,
        positive: Conditioning | None = None,
        negative: Conditioning | None = None,
        vae: VAE | None = None,
        guider: CFGGuider | None = None,
        bandwidths: Tensor | None = None,
        mask: Tensor | None = None,
        source: Tensor | None = None,
        source_positive: Conditioning | None = None,
        unconditional: Conditioning | None = None,
        preset: str = DEFAULT,
        **widgets: Any,  # noqa: ANN401 - as in the schema
    ) -> io.NodeOutput:
        given = {"source": source, "source_positive": source_positive, "unconditional": unconditional}
        check_beside(cls.method, given)
        for name, value in (("source_positive", source_positive), ("unconditional", unconditional)):
            if value is not None:
                check_conditioning(name, value)
        every, node_id = float(widgets.pop(EVERY, CHECKPOINT.default)), cls.hidden.unique_id if cls.hidden else None
        patcher = model if guider is None else guider.model_patcher
        usual = of_name(preset, patcher, generator) if has_presets(cls.method) else None
        shown, asked = {**widgets, "cfg": cfg}, None if guider is None else cfg_of(guider)
        with grad_mode():
            chosen = step_preset(cls.method, shown, bandwidths, usual)
            chosen = chosen if asked is None else build(chosen, {"cfg": asked})
            confined = None if mask is None else mask_for(mask, generator)
            edited = None if source is None else source_for(source, generator)
        guider = make_guider(model, positive, negative, chosen.cfg, guider)
        line = ""
        if has_presets(cls.method):
            line = told(preset, usual is not None, chosen, cfg_of(guider), replaced(cls.method, shown, chosen))
        guider, place = carrying(guider, source_positive, unconditional), None
        if every and node_id:
            given = generator.generator, chosen, seed, {"mask": confined, "source": edited}, guider.original_conds
            place = kept_for(cls.hidden.dynprompt, node_id, *given)
        run = Run(generator, guider, vae, chosen, seed, place, every, node_id, confined, edited, line)
        note(cls.hidden.extra_pnginfo if cls.hidden else None, node_id, run.written())
        return run(cls)


def replaced(name: str, widgets: Mapping[str, Any], chosen: Preset) -> dict[str, Any]:
    """What a run of a method is ``chosen`` to have, and its ``widgets`` do not show, by their names."""
    known, used = step_settings(name), flatten(chosen)
    shown = {flag: widgets[widget_id(flag)] for flag in known if flag in used and widget_id(flag) in widgets}
    said = {flag: value_of(known[flag], flag, raw) for flag, raw in shown.items()}
    return {widget_id(flag): used[flag] for flag, value in said.items() if value != used[flag]}


def check_beside(method: str, given: Mapping[str, object]) -> None:
    """Refuse a step without what its method needs beside the model."""
    wanted = [socket.id for need in needs_of(METHODS[method]) for socket in BESIDE[need]]
    missing = [name for name in wanted if given[name] is None]
    if missing:
        raise ValueError(
            f"{' and '.join(missing)}: not connected; {label_of(method)} needs {' and '.join(wanted)}; connect "
            f"{'them' if len(missing) > 1 else 'it'}"
        )


def label_of(name: str) -> str:
    """A method's name in menus."""
    return getattr(METHODS[name], "label", "") or name


def aliases(method: str) -> list[str]:
    """Further words that the menu's search finds a method's step by."""
    return [
        "score distillation",
        "distillation",
        method,
        *(["mode seeking"] if has_bandwidths(METHODS[method]) else []),
    ]


def step_node(method: str) -> type[StepNode]:
    """The node of a method; its id is made from the label, "Mean-Shift Distill" → MSD_MeanShiftDistillStep."""
    words = "".join(letter for letter in label_of(method) if letter.isalnum())
    return type(f"{words}Step", (StepNode,), {"method": method, "node_id": f"MSD_{words}Step", "__module__": __name__})


STEPS = {method: step_node(method) for method in METHODS}
MeanShiftDistillStep, SDSStep = STEPS["msd"], STEPS["sds"]
NODES = list(STEPS.values())
