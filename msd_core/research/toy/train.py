"""Train a `ToyNetwork` on a Gaussian mixture.

Objective, at points z = y + sigma n with ln sigma ~ N(noise_mean, noise_std^2) (mean over points and coordinates):

    sigma^2 |score_theta(z; sigma) - s|^2,    s = the mixture's exact score    (target "score")
                                              s = -n / sigma                   (target "noise")

The second is |eps_theta - n|^2 with eps = -sigma score. Its minimum over all functions is the same, at a loss that is
higher by the noise's own part. Adam; the rows of each matrix are set back to length sqrt(inputs) before every step, so
that a rate means the same rotation throughout (Karras et al. 2024, EDM2, "forced weight normalisation"); the result is
the power-function average of the weights.

A step's random numbers depend on the seed and on the step's number alone: a training that goes on from a saved state
gives, on the same machine and with as many threads, the same bits as one that was never stopped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ...densities import GaussianMixture
from ...optimizers import OptimizerConfig, Update, apply_update
from ..dream import dream_noise
from .ema import power_exponent, power_rate
from .network import ToyDenoiser, ToyNetwork, restore_network, unit_rows
from .pool import scored_points
from .settings import ToySettings

Batch = tuple[Tensor, Tensor, Tensor]
_INITIAL, _POOL, _STEP = range(3)


@dataclass(frozen=True, eq=False)
class Training:
    """A training after ``step`` updates: all that the next one needs, beside settings and mixture.

    Attributes:
        step: updates done.
        parameters, average: the network's, and their running average, by name.
        moments: Adam's means, by name.
        losses: of the updates done, in order.
    """

    step: int
    parameters: Mapping[str, Tensor]
    average: Mapping[str, Tensor]
    moments: Mapping[str, Tensor] = field(default_factory=dict)
    losses: tuple[float, ...] = ()


def stream(seed: int, purpose: int, step: int = 0) -> torch.Generator:
    """The source of randomness of one purpose and step."""
    return torch.Generator().manual_seed((3 * seed + purpose) * 1_000_003 + step)


def initial_training(settings: ToySettings, space: int) -> Training:
    """The state before the first update, for points of ``space`` numbers."""
    s = settings
    network = ToyNetwork(space, s.dim, s.layers, s.sigma_data, rng=stream(s.seed, _INITIAL))
    parameters = {name: tensor.detach().clone() for name, tensor in network.named_parameters()}
    return Training(0, parameters, parameters)


def train_steps(settings: ToySettings, mixture: GaussianMixture, start: Training | None = None) -> Iterator[Training]:
    """Yield the state after each update, from ``start`` (default: the initial one) to ``settings.steps``.

    The pool of training points is drawn first, which takes seconds for the default size.
    """
    state = initial_training(settings, mixture.means.shape[1]) if start is None else start
    if state.step >= settings.steps:
        return
    draw = _batches(settings, mixture)
    network = toy_network(settings, state.parameters)
    exponent = power_exponent(settings.ema)
    while state.step < settings.steps:
        network.load_state_dict(_set_lengths(state.parameters))
        batch = draw(network, stream(settings.seed, _STEP, state.step))
        state = _update(settings, state, network, batch, exponent)
        yield state


def toy_network(settings: ToySettings, parameters: Mapping[str, Tensor]) -> ToyNetwork:
    """The network of ``settings`` with these parameters, frozen."""
    space = parameters["weights.0"].shape[1] - 2
    return restore_network(
        parameters, space=space, dim=settings.dim, layers=settings.layers, sigma_data=settings.sigma_data
    )


def score_loss(score: Tensor, target: Tensor, sigma: Tensor) -> Tensor:
    """Mean of ``sigma^2 (score - target)^2`` over points and coordinates; score and target (B, D), sigma (B,)."""
    return (sigma[:, None] * (score - target)).square().mean()


def _batches(settings: ToySettings, mixture: GaussianMixture) -> Callable[[ToyNetwork, torch.Generator], Batch]:
    """A function of (network, rng) that draws a batch: z, sigma and the score to learn."""
    s, rng = settings, stream(settings.seed, _POOL)
    if s.target == "score":
        z, sigma, score = scored_points(mixture, s.pool, s.noise_mean, s.noise_std, rng=rng)

        def scored(network: ToyNetwork, rng: torch.Generator) -> Batch:
            rows = torch.randint(len(z), (s.batch,), generator=rng)
            return z[rows], sigma[rows], score[rows]

        return scored
    points = mixture.sample(s.pool, rng=rng).float()

    def noised(network: ToyNetwork, rng: torch.Generator) -> Batch:
        y = points[torch.randint(len(points), (s.batch,), generator=rng)]
        level = (s.noise_mean + s.noise_std * torch.randn(s.batch, generator=rng)).exp()
        noise = torch.randn(y.shape, generator=rng)
        if s.dream is not None:
            noise = dream_noise(y, level, noise, ToyDenoiser(network), s.dream)
        return y + level[:, None] * noise, level, -noise / level[:, None]

    return noised


def _set_lengths(parameters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The parameters with the rows of every matrix at length sqrt(inputs)."""
    return {
        name: unit_rows(value) * value.shape[1] ** 0.5 if value.ndim == 2 else value
        for name, value in parameters.items()
    }


def _update(settings: ToySettings, state: Training, network: ToyNetwork, batch: Batch, exponent: float) -> Training:
    """The state after one update of ``network``, which holds the parameters of ``state``."""
    z, sigma, target = batch
    named = dict(network.requires_grad_(True).named_parameters())
    loss = score_loss(network.score(z, sigma), target, sigma)
    gradients = dict(zip(named, torch.autograd.grad(loss, list(named.values())), strict=True))
    network.requires_grad_(False)
    step = state.step + 1
    rate = settings.rate(state.step)
    adam = OptimizerConfig("adam", lr=rate, betas=(0.9, 0.99), eps=1e-8)
    parameters, moments = apply_update(adam, Update(step, rate, 0.0), named, gradients, state.moments)
    keep = power_rate(step, exponent)
    average = {name: state.average[name].lerp(value, 1 - keep) for name, value in parameters.items()}
    return Training(step, parameters, average, moments, (*state.losses, float(loss.detach())))
