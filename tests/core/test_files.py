"""Saved generators: the same bytes, the same parameters, and one clear error for every file that is not one."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from msd_core.generators import GENERATORS, Generator, View, load_generator, make_generator, save_generator
from msd_core.tensorfile import read_tensors, text_entries, write_tensors

pytestmark = pytest.mark.core
SIZES = {
    "pixels": {"height": 4, "width": 6},
    "latent": {"channels": 4, "height": 4, "width": 6},
    "vector": {"height": 4, "width": 6, "paths": 4, "strokes": 2},
    "pixel-art": {"height": 4, "width": 6, "cells": 6, "colours": 3},
    "volume": {"height": 4, "width": 6, "rays": 4, "ray_samples": 4},
    "sticker": {"height": 4, "width": 6, "hidden": 8, "layers": 1},
}


def small(kind: str = "fourier") -> Generator:
    return make_generator(kind, **SIZES.get(kind, {"hidden": 8, "layers": 1}))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "generator.safetensors"
    save_generator(small(), path)
    return path


@pytest.mark.parametrize("kind", GENERATORS)
def test_round_trip_is_exact(kind: str, tmp_path: Path) -> None:
    generator, path = small(kind), tmp_path / "g.safetensors"
    with torch.no_grad():
        for parameter in generator.parameters():
            parameter += 1
    save_generator(generator, path, {"prompt": "a red circle"})
    loaded = load_generator(path)
    assert loaded.kind == kind and loaded.config() == generator.config()
    for name, tensor in generator.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert torch.equal(loaded.render(View(5, 7)), generator.render(View(5, 7)))
    assert read_tensors(path, "msd-generator", "1")[1]["prompt"] == "a red circle"
    assert os.listdir(tmp_path) == ["g.safetensors"]


def test_same_generator_same_bytes(tmp_path: Path) -> None:
    entries = {str(i): str(i) for i in range(20)}
    for name in "ab":
        save_generator(small(), tmp_path / name, entries)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    content = (tmp_path / "a").read_bytes()
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    assert list(header["__metadata__"]) == sorted(header["__metadata__"]), "the writer alone orders them at random"


@pytest.mark.parametrize("keep", [0, 5, 100, -1])
def test_truncated(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(ValueError, match="truncated, unreadable or not a safetensors file"):
        load_generator(saved)


def rewrite(path: Path, **changes: str) -> None:
    tensors, metadata = read_tensors(path, "msd-generator", "1")
    save_file(tensors, str(path), {**metadata, **changes})


def edited_config(path: Path, **changes: object) -> str:
    return json.dumps(json.loads(read_tensors(path, "msd-generator", "1")[1]["config"]) | changes)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.unlink(), "there is no file"),
        (lambda p: p.write_bytes(b"\x89PNG" + bytes(range(250))), "not a safetensors file"),
        (lambda p: save_file({"x": torch.zeros(2)}, str(p)), "is of format None"),
        (lambda p: rewrite(p, format="msd-state"), "is of format 'msd-state'"),
        (lambda p: rewrite(p, version="2"), "is of version '2'"),
        (lambda p: rewrite(p, kind="gabor"), "damaged .*'gabor'"),
        (lambda p: rewrite(p, config="{"), "damaged"),
        (lambda p: rewrite(p, config="[1]"), "damaged"),
        (lambda p: rewrite(p, config=edited_config(p, hidden=16)), "damaged .*size mismatch"),
        (lambda p: rewrite(p, config=edited_config(p, colour=1)), "damaged .*'colour'"),
    ],
)
def test_not_a_generator(saved: Path, spoil: Callable[[Path], object], words: str) -> None:
    spoil(saved)
    with pytest.raises(ValueError, match=words):
        load_generator(saved)


def test_nan_in_a_file(tmp_path: Path) -> None:
    generator = small()
    with torch.no_grad():
        next(generator.parameters()).fill_(float("nan"))
    save_generator(generator, tmp_path / "g")
    with pytest.raises(ValueError, match="NaN or infinity"):
        load_generator(tmp_path / "g")


def test_unwritable(tmp_path: Path) -> None:
    for path in (tmp_path / "nowhere" / "g.safetensors", tmp_path):
        with pytest.raises(ValueError, match="path: cannot write"):
            save_generator(small(), path)
    assert os.listdir(tmp_path) == []


def test_a_failed_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(self: Path, content: bytes) -> int:
        with self.open("wb") as file:
            file.write(content[:50])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ValueError, match="No space left on device"):
        save_generator(small("siren"), saved)
    assert saved.read_bytes() == before and len(os.listdir(saved.parent)) == 1


@pytest.mark.parametrize("metadata", [{"kind": "mine"}, {"steps": 3}])
def test_metadata_of_the_wrong_kind(tmp_path: Path, metadata: dict) -> None:
    with pytest.raises(ValueError, match="metadata: got"):
        save_generator(small(), tmp_path / "g", metadata)


def test_tensors_of_any_layout_are_written(tmp_path: Path) -> None:
    strided = torch.arange(12.0).reshape(3, 4).T
    write_tensors(tmp_path / "t", {"x": strided}, "f", "1", {})
    assert torch.equal(read_tensors(tmp_path / "t", "f", "1")[0]["x"], strided)


def test_text_is_read_without_the_tensors(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of any format; a file that is none is said to be none."""
    assert text_entries(saved) == read_tensors(saved, "msd-generator", "1")[1]
    plain = tmp_path / "plain.safetensors"
    save_file({"x": torch.zeros(2)}, plain)
    assert text_entries(plain) == {}
    plain.write_bytes(saved.read_bytes()[:-1])
    with pytest.raises(ValueError, match="path: .* is truncated"):
        text_entries(plain)
    with pytest.raises(ValueError, match="path: there is no file"):
        text_entries(tmp_path / "none.safetensors")
    monkeypatch.setattr("msd_core.tensorfile.LARGEST_HEADER", 10)
    with pytest.raises(ValueError, match="a header of .* bytes; allowed are 10"):
        text_entries(saved)
