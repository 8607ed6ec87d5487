"""The optimisation loop: distil a model into a generator, one yielded state a step.

    x = encode(g(psi; view)),   g_x = method(x),   psi <- optimiser(psi, J^T g_x),   J = dx/dpsi

(Mean-Shift Distillation, Algs. 1 and 2.) The method sees x detached and is not differentiated; where its gradient
enters the chain rule is the `pull`'s affair. `start` makes the state that a run begins with, `optimize` goes on from
any state.

With n ``inner_steps`` the generator takes n updates towards each target, x - method(x), before the model is asked
again: at n times its own cost and the encoder's, and none of the model's.

The loop prints nothing, shows nothing and catches nothing: progress, preview, interruption and saving belong to the
caller, between two states.

A state depends only on the one before it, so a run resumed from a saved state is, on the same machine, the
uninterrupted run to the last bit. Each step sets autograd's modes itself, and leaves the caller's as they were between
steps."""

from __future__ import annotations

import bisect
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from .denoiser import Denoiser, check_denoiser, data_std, sigma_range
from .distillation import METHODS
from .distillation.base import Method, bandwidth_of
from .echo import shown
from .finite import NonFiniteError, check_finite
from .generators.base import Generator, Moved
from .info import Info
from .optimizers import OptimizerConfig, Update, apply_update, follow, square_sum
from .pull import Masked, Pull, Pulling
from .randomness import Rng, seeded
from .state import State
from .validation import MOST_STEPS, check_callable, check_count, check_instance, check_number, check_seed

ROUNDING = 1e-6
"""Relative: a bandwidth is held in float32."""


@dataclass(frozen=True)
class ByView:
    """A denoiser chosen by the view that is rendered, such as a prompt by camera: ``pick(view) -> denoiser``."""

    pick: Callable[[Any], Denoiser]

    def __post_init__(self) -> None:
        check_callable("pick", self.pick, "a function from a view to a denoiser")


@dataclass(frozen=True)
class _Run:
    """The arguments of `optimize` that stay the same from step to step."""

    method: Method
    denoiser: Denoiser | ByView
    pull: Pulling
    optimizer: OptimizerConfig
    min_bandwidth: float | None
    tolerance: float | None
    inner_steps: int

    def bandwidth(self, state: State) -> float | None:
        """The kernel's bandwidth in the step after ``state``."""
        return bandwidth_of(self.method, state.step, state.steps)


def start(
    generator: Generator, *, steps: int, seed: int | Sequence[int] = 0, rng: torch.Generator | None = None
) -> State:
    """The state that a run of ``steps`` iterations begins with.

    Args:
        generator: where to start; it is never changed.
        steps: iterations of the whole run, on which the annealing depends.
        seed: of the noise; for a `Batch` one a member, or the first of consecutive ones.
        rng: a source whose present state the run's noise goes on from, instead of ``seed``; not for a `Batch`.

    Raises:
        ValueError: for fewer than one step, a bad seed, not as many seeds as members, or one ``rng`` for several.
    """
    check_count("steps", steps, maximum=MOST_STEPS)
    check_instance("generator", generator, Generator, "a Generator. Make one with generator_for_size(kind, w, h)")
    if rng is not None:
        check_instance("rng", rng, torch.Generator, "a torch.Generator, or None. Pass seed instead")
    streams = len([row for row in generator.groups().values() if row is not None])
    seeds = _seeds(seed, streams)
    if rng is not None and streams:
        raise ValueError(
            f"rng: got one source for {streams} members of a batch, which would all draw the same; allowed is None "
            "there. Pass seed, one number or one a member."
        )
    states = [seeded(value).get_state() for value in seeds] if rng is None else [rng.get_state()]
    state = torch.stack(states) if streams else states[0]
    return State(0, steps, tuple(seeds) if streams else seeds[0], "", generator, {}, state)


def _seeds(seed: int | Sequence[int], streams: int) -> list[int]:
    if isinstance(seed, (list, tuple, range)):
        if not streams or len(seed) != streams:
            raise ValueError(
                f"seed: got {len(seed)} seeds for {streams} members of a batch; allowed is one a member. Pass a number."
            )
        return list(seed)
    check_seed("seed", seed)
    assert isinstance(seed, int)  # noqa: S101 - checked
    return [seed + i for i in range(max(streams, 1))]


def optimize(
    state: State,
    method: str | Method,
    denoiser: Denoiser | ByView,
    *,
    pull: Pulling = Pull(),  # noqa: B008 - frozen
    optimizer: str | OptimizerConfig = OptimizerConfig(),  # noqa: B008 - frozen
    min_bandwidth: float | None = None,
    tolerance: float | None = None,
    inner_steps: int = 1,
) -> Iterator[State]:
    """Go on from ``state`` to the end of its run, and yield a `State` after each step.

    Args:
        state: from `start`, or of a run to resume. Its generator is never changed.
        method: a distillation method, `MSD`, `SDS`, `SDI` or any other `Method`; or its name.
        denoiser: ``(z, sigma) -> E[y | z]``, with guidance; or one chosen by the view, `ByView`.
        pull: what is pulled: x as the generator renders it, unless an encoder stands between (`pull`).
        optimizer: Adam as in the paper, or another, or its name; that of the run to resume.
        min_bandwidth: stop before the first step with lambda_k below it (the paper's lambda_min); None or 0: never.
        tolerance: stop after the first step with |m| = ``info.norm`` at or below it; not for a batch, whose members
            would have to stop at different steps.
        inner_steps: updates of the generator towards the target of each step.

    Yields:
        The state after each step; none if nothing is left to do.

    Raises:
        ValueError: at the call for arguments that do not fit together; from a step for what method, model or encoder
            refuse, for shapes that do not fit, and (`NonFiniteError`) for NaN or infinity.
    """
    config = OptimizerConfig(optimizer) if isinstance(optimizer, str) else optimizer
    run = _Run(METHODS.made("method", method), denoiser, pull, config, min_bandwidth, tolerance, inner_steps)
    _check_kinds(run, state)
    _check(run, state)
    return _walk(run, state)


def _check_kinds(run: _Run, state: State) -> None:
    """Refuse arguments of another kind than is meant."""
    check_instance("state", state, State, "a State. Make one with start(generator, steps=...)")
    check_instance("optimizer", run.optimizer, OptimizerConfig, "an OptimizerConfig, or the name of an optimiser")
    if not isinstance(run.denoiser, ByView):
        check_denoiser(run.denoiser)
    if not hasattr(run.pull, "space"):
        raise ValueError(f"pull: got {shown(run.pull)}; allowed are Pull(), LatentPull, ImagePull, Masked. Make one.")
    check_count("inner_steps", run.inner_steps, maximum=MOST_STEPS)
    for name, value in (("min_bandwidth", run.min_bandwidth), ("tolerance", run.tolerance)):
        if value is not None:
            check_number(name, value, "Use 0 to stop at steps alone.", low=0)


def _check(run: _Run, state: State) -> None:
    """Refuse settings that do not fit the generator, the method or the state, before anything is evaluated."""
    if state.optimizer not in ("", run.optimizer.name):
        raise ValueError(
            f"optimizer: got {run.optimizer.name!r}; the state was started with {state.optimizer!r}, and only this "
            "continues it. Pass it, or start a new run from state.generator."
        )
    if state.generator.space not in run.pull.space:
        raise ValueError(
            f"pull: got {type(run.pull).__name__} for a generator that renders {state.generator.space}; allowed are "
            f"generators of {', '.join(run.pull.space)}. Use Pull(), or another generator."
        )
    if run.tolerance is not None and any(row is not None for row in state.generator.groups().values()):
        raise ValueError(
            f"tolerance: got {run.tolerance} for a batch, whose members would stop at different steps; allowed is none "
            "there. Leave it out, or run the members one by one."
        )
    if state.step < state.steps:
        _check_bandwidth(run, bandwidth_of(run.method, 0, state.steps))
        _check_levels(run, state)


def _check_bandwidth(run: _Run, first: float | None) -> None:
    if run.min_bandwidth and first is None:
        raise ValueError(
            f"min_bandwidth: got {run.min_bandwidth} for a method without bandwidth; allowed is 0 there. Set it to 0."
        )
    if run.min_bandwidth and first is not None and _below(first, run.min_bandwidth):
        raise ValueError(
            f"min_bandwidth: got {run.min_bandwidth}; allowed is at most {first:g}, the first bandwidth, or no step is "
            "left. Lower it."
        )
    run.optimizer.rate(first)


def _check_levels(run: _Run, state: State) -> None:
    """Refuse an estimator that has no levels to walk at the last bandwidth, the smallest, before the first step."""
    levels = getattr(getattr(run.method, "estimator", None), "levels", None)
    last = planned_steps(run.method, state.steps, run.min_bandwidth) - 1
    bandwidth = bandwidth_of(run.method, max(last, 0), state.steps)
    if levels is not None and bandwidth is not None and not isinstance(run.denoiser, ByView):
        levels(bandwidth, sigma_range(run.denoiser)[1], data_std(run.denoiser))


def _walk(run: _Run, state: State) -> Iterator[State]:
    while not _finished(run, state):
        state = _advance(run, state)
        yield state


def _finished(run: _Run, state: State) -> bool:
    """Whether the run is at its end: all steps done, |m| small enough, or the next bandwidth too small."""
    if state.step >= state.steps:
        return True
    if run.tolerance is not None and state.history and state.info.norm <= run.tolerance:
        return True
    bandwidth = run.bandwidth(state) if run.min_bandwidth else None
    return bandwidth is not None and _below(bandwidth, run.min_bandwidth or 0)


def _below(bandwidth: float, least: float) -> bool:
    """Whether a bandwidth, which is held in float32, is below ``least``."""
    return bandwidth < least * (1 - ROUNDING)


def planned_steps(method: Method, steps: int, min_bandwidth: float | None) -> int:
    """Iterations that a run of ``steps`` does before its bandwidth falls below ``min_bandwidth``; bandwidths fall."""
    if not min_bandwidth or bandwidth_of(method, 0, steps) is None:
        return steps
    return bisect.bisect_left(
        range(steps), True, key=lambda k: _below(bandwidth_of(method, k, steps) or 0, min_bandwidth)
    )


def _advance(run: _Run, state: State) -> State:
    """One step. Runs in grad mode whatever the caller's mode is, on copies whatever mode they were made in."""
    known: list[Info] = []
    with torch.inference_mode(False), torch.enable_grad():
        generator = copy.deepcopy(state.generator)
        rng = _streams(state.rng_state)
        try:
            view = generator.view(state.step, state.steps, rng)
            render = generator.renderer(view)
            first = _first(run, state)
            pulled, cotangent = _pull(run, _rendered(render), view, state, rng, known)
            if first is not None:
                cotangent = _held(run, pulled, cotangent, first, view)
            before = pulled.detach()
            target, memory = before - cotangent, dict(state.optimizer_state)
            for inner in range(run.inner_steps):
                if inner:
                    pulled = run.pull.pulled(_rendered(render))
                    cotangent = pulled.detach() - target
                count = state.step * run.inner_steps + inner + 1
                objective = _Objective(pulled, cotangent, generator.penalty(view))
                memory = _update(run, generator, count, memory, objective, known[0])
            with torch.no_grad():
                moved = generator.tend(Moved(state.step, state.steps, view, before, target), rng)
            memory = follow(memory, moved)
        except NonFiniteError as error:
            _locate(error, state.step, known)
    return replace(
        state,
        step=state.step + 1,
        optimizer=run.optimizer.name,
        generator=generator,
        optimizer_state=memory,
        rng_state=_stream_states(rng),
        history=(*state.history, known[0]),
        target=target,
        first=first,
    )


def _streams(rng_state: Tensor) -> Rng:
    """The sources whose states are ``rng_state``: one, or (B, *) one a member of a batch."""
    made = []
    for row in rng_state if rng_state.ndim > 1 else [rng_state]:
        made.append(torch.Generator())
        made[-1].set_state(row.clone())  # a view of another tensor crashes torch
    return made if rng_state.ndim > 1 else made[0]


def _stream_states(rng: Rng) -> Tensor:
    if isinstance(rng, torch.Generator):
        return rng.get_state()
    assert isinstance(rng, Sequence)  # noqa: S101 - made by `_streams`
    return torch.stack([source.get_state() for source in rng])


def _rendered(render: Callable[[], Tensor]) -> Tensor:
    picture = render()
    check_finite("generator", [picture], "picture", "Use a smaller learning rate.")
    return picture


def _pull(
    run: _Run,
    picture: Tensor,
    view: Any,  # noqa: ANN401 - of the generator's own kind
    state: State,
    rng: Rng,
    known: list[Info],
) -> tuple[Tensor, Tensor]:
    """What is pulled of ``picture``, with its graph, and its cotangent; the method's `Info` is left in ``known``."""
    denoiser = run.denoiser.pick(view) if isinstance(run.denoiser, ByView) else run.denoiser

    def distil(x: Tensor) -> Tensor:
        check_finite("encode", [x], "latent", "Run the encoder in float32.")
        with torch.no_grad():
            gradient, info = run.method(x, denoiser, step=state.step, steps=state.steps, rng=rng)
        known.append(info)
        if not isinstance(gradient, Tensor) or gradient.shape != x.shape:
            got = f"shape {tuple(gradient.shape)}" if isinstance(gradient, Tensor) else shown(gradient)
            raise ValueError(
                f"method: the gradient has {got}, x {tuple(x.shape)}; allowed is x's shape. Return a gradient on x."
            )
        fix = "Run the model in float32, or use the estimator 'exact' if it is 'naive'."
        check_finite("denoiser", [gradient], "gradient", fix)
        return gradient.detach().to(x, copy=True)

    return run.pull(picture, distil)


def _first(run: _Run, state: State) -> Generator | None:
    """The generator that what is outside of a mask is held to: where the masked run began; None for none."""
    if not isinstance(run.pull, Masked) or not run.pull.hold or state.generator.independent:
        return None
    return state.generator if state.first is None else state.first


def _held(run: _Run, pulled: Tensor, cotangent: Tensor, first: Generator, view: Any) -> Tensor:  # noqa: ANN401 - a view
    """The ``cotangent`` with what leads back, outside of the mask, to what ``first`` shows in the same view."""
    assert isinstance(run.pull, Masked)  # noqa: S101 - by `_first`
    with torch.no_grad():
        picture = first.render(view)
    return run.pull.held(pulled, cotangent, run.pull.pulled(picture.clone().requires_grad_()).detach())


class _Objective(NamedTuple):
    """What is pulled, with its graph, and its cotangent; and what speaks against the parameters."""

    pulled: Tensor
    cotangent: Tensor
    penalty: Tensor | None

    def gradients(self, parameters: Mapping[str, Tensor]) -> tuple[Tensor | None, ...]:
        """Of <pulled, cotangent> + places * penalty, in the order of ``parameters``."""
        if self.penalty is None:
            outputs, cotangents = [self.pulled], [self.cotangent]
        else:
            places = self.pulled[0, 0].numel() if self.pulled.ndim > 2 else 1
            outputs, cotangents = [self.pulled, self.penalty], [self.cotangent, self.penalty.new_tensor(places)]
        return torch.autograd.grad(outputs, list(parameters.values()), cotangents, allow_unused=True)


def _update(
    run: _Run,
    generator: Generator,
    count: int,
    before: Mapping[str, Tensor],
    objective: _Objective,
    info: Info,
) -> dict[str, Tensor]:
    """Update the generator in place, each group of parameters on its own; returns the optimiser's new memory."""
    parameters = {name: p for name, p in generator.named_parameters() if p.requires_grad}
    found, cotangent = objective.gradients(parameters), objective.cotangent
    gradients = {name: p for name, p in zip(parameters, found, strict=True) if p is not None}
    check_finite("encode", gradients.values(), "backward pass", "Run the encoder in float32.")
    rate = run.optimizer.rate(info.bandwidth)
    new: dict[str, Tensor] = {}
    memory: dict[str, Tensor] = {}
    for prefix, row in generator.groups().items():
        own = {name: p for name, p in gradients.items() if name.startswith(prefix)}
        norm2 = 0.0
        if run.optimizer.name == "gd":
            norm2 = square_sum([cotangent if row is None else cotangent[row]])
        update = Update(count=count, rate=rate, norm2=norm2)
        moved, kept = apply_update(run.optimizer, update, parameters, own, before)
        new, memory = new | moved, memory | kept
    check_finite("lr", new.values(), "new parameters", "Use a smaller learning rate.")
    with torch.no_grad():
        for name, value in new.items():
            parameters[name].copy_(value)
    return memory


def _locate(error: NonFiniteError, step: int, known: list[Info]) -> NoReturn:
    """Raise ``error`` again with the step, the noise level and the bandwidth, as far as they are known."""
    levels = {"sigma": known[0].sigma, "bandwidth": known[0].bandwidth} if known else {}
    at = "".join(f", {key} {value:g}" for key, value in levels.items() if value is not None)
    fix = f"Nothing is lost: the generator is as it was after step {step}. {error.fix}"
    where = f" in step {step + 1}{at}"
    raise NonFiniteError(error.name, error.what, error.count, error.total, fix, where) from error
