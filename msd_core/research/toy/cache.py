"""Trained networks on disk: each is trained once, and a training that was interrupted goes on where it was saved.

    folder/toy-<key>.safetensors            the averaged weights, and the loss of every step
    folder/toy-<key>-partial.safetensors    a training under way; removed when it is done

    metadata = {"format": "msd-toy" or "msd-toy-training", "version", "key", "settings": JSON}

The key is a hash of the settings, of the mixture's parameters and of the version: change any of them, and another file
is written. Equal trainings give equal bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ...densities import GaussianMixture
from ...optimizers import check_memory
from ...tensorfile import read_tensors, write_tensors
from ...training import OnStep
from ...validation import check_count
from ..densities import make_density
from .network import ToyDenoiser
from .settings import ToySettings
from .train import HasClasses, Training, initial_training, mixture_of, toy_network, train_steps

FORMAT, TRAINING_FORMAT, VERSION = "msd-toy", "msd-toy-training", "1"


def load_or_train(
    settings: ToySettings,
    folder: str | Path,
    *,
    density: GaussianMixture | HasClasses | None = None,
    progress: OnStep | None = None,
    save_every: int = 256,
) -> ToyDenoiser:
    """The denoiser of ``settings``, from ``folder`` if it was trained before, else trained now and kept there.

    It is clipped to the `GaussianMixture.box` of its density.

    Args:
        settings: of the training.
        folder: made if it does not exist.
        density: a mixture, or a density with classes; default: the one that ``settings.density`` names.
        progress: called with (updates done, all updates) after each; not at all if the model was there.
        save_every: updates between two saves of a training under way.

    Raises:
        ValueError: for an unknown density or class, or a file that is damaged or cannot be written.
    """
    check_count("save_every", save_every)
    mixture = mixture_of(settings, make_density(settings.density) if density is None else density)
    key, path = cache_key(settings, mixture), model_path(settings, folder, mixture)
    if path.exists():
        return ToyDenoiser(toy_network(settings, _part(_read(path, FORMAT, key), "network.")), box=mixture.box())
    partial = path.with_name(f"{path.stem}-partial.safetensors")
    start = _load_training(partial, key) if partial.exists() else initial_training(settings, mixture.means.shape[1])
    state = start
    _make_folder(path.parent)
    entries = {"key": key, "settings": json.dumps(settings.as_json(), sort_keys=True)}
    for state in train_steps(settings, mixture, start):
        if state.step % save_every == 0 and state.step < settings.steps:
            write_tensors(partial, _training_tensors(state), TRAINING_FORMAT, VERSION, entries)
        if progress is not None:
            progress(state.step, settings.steps)
    tensors = _prefixed("network.", state.average) | {"losses": torch.tensor(state.losses)}
    write_tensors(path, tensors, FORMAT, VERSION, entries)
    partial.unlink(missing_ok=True)
    return ToyDenoiser(toy_network(settings, state.average), box=mixture.box())


def model_path(settings: ToySettings, folder: str | Path, mixture: GaussianMixture) -> Path:
    """Where `load_or_train` keeps this model; the file need not exist."""
    return Path(folder) / f"toy-{cache_key(settings, mixture)}.safetensors"


def cache_key(settings: ToySettings, mixture: GaussianMixture) -> str:
    """16 hexadecimal digits that differ for different settings, mixtures or versions."""
    identity = json.dumps([VERSION, settings.as_json(), mixture.digest()], sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(
            f"folder: cannot make {str(folder)!r} ({error.strerror}); allowed is a folder, or a name for a new one in "
            "a place that is writable. Choose another."
        ) from error


def _training_tensors(state: Training) -> dict[str, Tensor]:
    tensors = _prefixed("parameters.", state.parameters) | _prefixed("average.", state.average)
    losses = {"losses": torch.tensor(state.losses, dtype=torch.float64)}
    return tensors | _prefixed("moments.", state.moments) | losses


def _load_training(path: Path, key: str) -> Training:
    tensors = _read(path, TRAINING_FORMAT, key)
    losses = tuple(_entry(path, tensors, "losses").tolist())
    parameters, average, moments = (_part(tensors, prefix) for prefix in ("parameters.", "average.", "moments."))
    check_memory("adam", parameters, moments)
    return Training(len(losses), parameters, average, moments, losses)


def _read(path: Path, format: str, key: str) -> dict[str, Tensor]:  # noqa: A002 - the name of the entry
    tensors, metadata = read_tensors(path, format, VERSION)
    if metadata.get("key") != key:
        raise ValueError(
            f"folder: {str(path)!r} holds the model {metadata.get('key')!r}; allowed is the one of its name, {key!r}. "
            "Delete the file, and it is trained again."
        )
    return tensors


def _entry(path: str | Path, tensors: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in tensors:
        raise ValueError(f"folder: {str(path)!r} is damaged, it has no {name!r}. Delete it, and it is trained again.")
    return tensors[name]


def _prefixed(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in tensors.items()}


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
