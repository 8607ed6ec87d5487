"""The optimisation loop: distil a model into a generator, one yielded state a step.

    x = encode(g(psi)),   g_x = method(x),   psi <- optimiser(psi, J^T g_x),   J = dx/dpsi

(Mean-Shift Distillation, Algs. 1 and 2.) The method sees x detached and is not differentiated; its gradient enters the
chain rule as the cotangent of x. With ``decode`` the pull is applied to the picture itself,

    psi <- optimiser(psi, J^T (g(psi) - decode(x - g_x))),   J = dg/dpsi

(the image-space residual of HiFA, Zhu et al. 2023, on its own): no backward pass through the encoder, and
no picture that merely has the right latent, where the encoder maps different pictures to one.

The loop prints nothing, shows nothing and catches nothing: progress, preview, interruption and saving belong to the
caller, between two states.

A state depends only on the one before it, so a run resumed from a saved state is, on the same machine, the
uninterrupted run to the last bit. Each step sets autograd's modes itself, and leaves the caller's as they were between
steps."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .denoiser import Denoiser
from .distillation import Method
from .generators import Generator
from .info import Info
from .optimizers import OPTIMIZERS, OptimizerConfig, Update, apply_update
from .state import State, load_state, save_state
from .validation import check_count

__all__ = ["OPTIMIZERS", "NonFiniteError", "OptimizerConfig", "State", "load_state", "optimize", "save_state"]

Encode = Callable[[Tensor], Tensor]
Decode = Callable[[Tensor], Tensor]


class NonFiniteError(ValueError):
    """A NaN or infinity where a number is needed; no state after the last one that was yielded exists."""


@dataclass(frozen=True)
class _Task:
    """The arguments of `optimize` that stay the same from step to step."""

    method: Method
    denoiser: Denoiser
    size: tuple[int, int]
    optimizer: OptimizerConfig
    encode: Encode | None
    decode: Decode | None
    min_bandwidth: float | None
    tolerance: float | None


def optimize(
    generator: Generator | None,
    method: Method,
    denoiser: Denoiser,
    *,
    size: tuple[int, int],
    steps: int,
    seed: int = 0,
    optimizer: OptimizerConfig = OptimizerConfig(),  # noqa: B008 - frozen
    encode: Encode | None = None,
    decode: Decode | None = None,
    state: State | None = None,
    min_bandwidth: float | None = None,
    tolerance: float | None = None,
) -> Iterator[State]:
    """Optimise a copy of ``generator`` and yield a `State` after each step.

    Args:
        generator: where to start; it is never changed. None to go on from ``state``.
        method: a distillation method, `MSD`, `SDS`, `SDI` or any other `Method`.
        denoiser: ``(z, sigma) -> E[y | z]``, with guidance.
        size: (height, width) at which the generator is rendered; latent cells for a latent generator.
        steps: iterations of the whole run.
        seed: of the noise.
        optimizer: Adam as in the paper, or another.
        encode: differentiable image (1, 3, H, W) in [0, 1] -> x (1, *), for a model that works on latents.
        decode: x (1, *) -> image (1, 3, H, W): pull the picture towards what x - g_x decodes to. None pulls x, through
            the encoder, as the paper does.
        state: of a run to resume; ``steps`` and ``seed`` must be its own.
        min_bandwidth: stop before the first step with lambda_k below it (the paper's lambda_min).
        tolerance: stop after the first step with |m| = ``info.norm`` at or below it.

    Yields:
        The state after each step; none if nothing is left to do.

    Raises:
        ValueError: at the call for arguments that do not fit together; from a step for what method, model or encoder
            refuse, for shapes that do not fit, and (`NonFiniteError`) for NaN or infinity.
    """
    task = _Task(method, denoiser, size, optimizer, encode, decode, min_bandwidth, tolerance)
    start = _start(generator, state, steps, seed, optimizer.name)
    _check(task, start)
    return _run(task, start)


def _start(generator: Generator | None, state: State | None, steps: int, seed: int, optimizer: str) -> State:
    """The state to start from: ``state``, or that of a new run."""
    check_count("steps", steps)
    check_count("seed", seed, minimum=0)
    if state is None:
        if generator is None:
            raise ValueError("generator: got None without a state; allowed is a Generator. Pass one, or a state.")
        return State(0, steps, seed, optimizer, generator, {}, torch.Generator().manual_seed(seed).get_state())
    if generator is not None and generator is not state.generator:
        raise ValueError(
            "generator: got one beside a state, which holds its own; allowed is None. Pass one of the two."
        )
    given, own = (steps, seed, optimizer), (state.steps, state.seed, state.optimizer)
    if given != own:
        raise ValueError(
            f"steps, seed, optimizer: got {given}; the state was started with {own}, and only these continue it. Pass "
            "them, or start a new run from state.generator."
        )
    return state


def _check(task: _Task, start: State) -> None:
    """Refuse settings that do not fit the generator or the method, before anything is evaluated."""
    if task.encode is not None and start.generator.space == "latent":
        raise ValueError("encode: got an encoder for a latent generator; allowed is None. Leave it out.")
    if task.decode is not None and task.encode is None:
        raise ValueError("decode: got a decoder without an encoder; allowed is both or neither. Pass encode too.")
    for name, value in zip(("height", "width"), task.size, strict=True):
        check_count(name, value)
    for name, value in (("min_bandwidth", task.min_bandwidth), ("tolerance", task.tolerance)):
        if value is not None and not value >= 0:
            raise ValueError(f"{name}: got {value}; allowed is a number >= 0, or None. Leave it out to stop at steps.")
    bandwidth = task.method.bandwidth(0)
    if task.min_bandwidth and bandwidth is None:
        raise ValueError(f"min_bandwidth: got {task.min_bandwidth} for a method without bandwidth; leave it out.")
    if task.min_bandwidth and bandwidth is not None and bandwidth < task.min_bandwidth:
        raise ValueError(
            f"min_bandwidth: got {task.min_bandwidth}; allowed is at most {bandwidth:g}, the first bandwidth, or no "
            "step is left. Lower it."
        )
    task.optimizer.rate(bandwidth)


def _run(task: _Task, state: State) -> Iterator[State]:
    while not _finished(task, state):
        state = _advance(task, state)
        yield state


def _finished(task: _Task, state: State) -> bool:
    """Whether the run is at its end: all steps done, |m| small enough, or the next bandwidth too small."""
    if state.step >= state.steps:
        return True
    if task.tolerance is not None and state.history and state.info.norm <= task.tolerance:
        return True
    bandwidth = task.method.bandwidth(state.step)
    return bool(task.min_bandwidth) and bandwidth is not None and bandwidth < task.min_bandwidth


def _advance(task: _Task, state: State) -> State:
    """One step. Runs in grad mode whatever the caller's mode is, on copies whatever mode they were made in."""
    with torch.inference_mode(False), torch.enable_grad():
        generator = copy.deepcopy(state.generator)
        rng = torch.Generator()
        rng.set_state(state.rng_state)
        pulled, gradient, info = _pull(task, generator, state, rng)
        parameters = {name: p for name, p in generator.named_parameters() if p.requires_grad}
        found = torch.autograd.grad(pulled, list(parameters.values()), gradient, allow_unused=True)
        gradients = {name: p for name, p in zip(parameters, found, strict=True) if p is not None}
        _check_finite("encode", gradients.values(), state.step, info, "backward pass", "Run the encoder in float32.")
        update = Update(
            count=state.step + 1,
            rate=task.optimizer.rate(info.bandwidth),
            norm2=float(gradient.double().square().sum()),
        )
        new, memory = apply_update(task.optimizer, update, parameters, gradients, state.optimizer_state)
        _check_finite("lr", new.values(), state.step, info, "new parameters", "Use a smaller learning rate.")
        with torch.no_grad():
            for name, value in new.items():
                parameters[name].copy_(value)
    return replace(
        state,
        step=state.step + 1,
        generator=generator,
        optimizer_state=memory,
        rng_state=rng.get_state(),
        history=(*state.history, info),
    )


def _pull(task: _Task, generator: Generator, state: State, rng: torch.Generator) -> tuple[Tensor, Tensor, Info]:
    """What is pulled, with its graph (x, or the picture where there is a decoder), the gradient on it, and the Info."""
    picture = generator.render(*task.size)
    _check_finite("generator", [picture], state.step, None, "picture", "Use a smaller learning rate.")
    _check_differentiable("generator", picture)
    if task.encode is None:
        x = picture
    else:
        with torch.set_grad_enabled(task.decode is None):
            x = task.encode(picture)
        if task.decode is None:
            _check_differentiable("encode", x)
    _check_finite("encode", [x], state.step, None, "latent", "Run the encoder in float32.")
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    gradient, info = _distil(task, x.detach(), state, rng)
    if task.decode is None:
        return x, gradient, info
    with torch.no_grad():
        target = task.decode(x.detach() - gradient).to(picture)
    _check_finite("decode", [target], state.step, info, "picture", "Run the decoder in float32.")
    if target.shape != picture.shape:
        raise ValueError(
            f"decode: gave shape {tuple(target.shape)}, the picture has {tuple(picture.shape)}; allowed is the "
            "picture's. Use the decoder that belongs to the encoder, and a size that it can give."
        )
    return picture, picture.detach() - target, info


def _check_differentiable(name: str, value: Tensor) -> None:
    """Refuse an output without a graph."""
    if not value.requires_grad:
        raise ValueError(
            f"{name}: x has no gradient with respect to the generator's parameters; allowed is a differentiable map. "
            "Remove no_grad, detach or inference mode from it."
        )


def _distil(task: _Task, x: Tensor, state: State, rng: torch.Generator) -> tuple[Tensor, Info]:
    """The method's gradient on ``x``, checked, as an ordinary tensor of x's type."""
    with torch.no_grad():
        gradient, info = task.method(x, task.denoiser, step=state.step, steps=state.steps, generator=rng)
    if gradient.shape != x.shape:
        raise ValueError(
            f"method: the gradient has shape {tuple(gradient.shape)}, x {tuple(x.shape)}; allowed is x's shape. Return "
            "a gradient on x."
        )
    fix = "Run the model in float32, or use the estimator 'exact' if it is 'naive'."
    _check_finite("denoiser", [gradient], state.step, info, "gradient", fix)
    return gradient.detach().to(x, copy=True), info


def _check_finite(name: str, tensors: Iterable[Tensor], step: int, info: Info | None, what: str, fix: str) -> None:
    """Refuse NaN and infinity in ``tensors``, saying where the run is.

    Raises:
        NonFiniteError: with the step, the noise level and the bandwidth.
    """
    bad = total = 0
    for tensor in tensors:
        bad += int(tensor.numel() - torch.isfinite(tensor).sum())
        total += tensor.numel()
    if bad:
        levels = {} if info is None else {"sigma": info.sigma, "bandwidth": info.bandwidth}
        at = "".join(f", {key} {value:g}" for key, value in levels.items() if value is not None)
        raise NonFiniteError(
            f"{name}: NaN or infinity in {bad} of {total} numbers of the {what} in step {step + 1}{at}; allowed are "
            f"finite numbers. Nothing is lost: the generator is as it was after step {step}. {fix}"
        )
