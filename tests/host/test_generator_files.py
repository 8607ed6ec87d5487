"""Save Generator, Load Generator, Generator Info: what is saved comes back to the bit, and nothing else is read."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import comfy.latent_formats
import folder_paths
import pytest
import torch
from comfy.cli_args import args
from comfy_api.latest import io
from comfy_execution.graph import DynamicPrompt
from msd_pack.msd_core import memory
from msd_pack.msd_core.generators import Batch, Points, View, make_generator, save_generator
from msd_pack.msd_core.optimize import start
from msd_pack.msd_core.state import save_state
from msd_pack.msd_core.tensorfile import text_entries, write_tensors
from msd_pack.nodes import about, run, stored
from msd_pack.nodes.demo_model import DemoLatent
from msd_pack.nodes.distill import STEPS
from msd_pack.nodes.files import GeneratorInfo, LoadGenerator, SaveGenerator
from msd_pack.nodes.generators import HostGenerator, NeuralImageGenerator, RenderGenerator
from msd_pack.nodes.kept import FOLDER
from tiny_models import conditioning, tiny_model, tiny_vae

GRAPH = {
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red circle", "clip": ["1", 1]}},
    "4": {"class_type": "CLIPTextEncode", "inputs": {"text": " ", "clip": ["1", 1]}},
    "3": {"class_type": "MSD_SaveGenerator", "inputs": {"generator": ["7", 0], "filename_prefix": "generators/msd"}},
}
WORKFLOW = {"nodes": [{"id": 2, "type": "CLIPTextEncode"}], "version": 0.4}
KINDS = ["fourier", "siren", "hashgrid", "pixels", "latent"]


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """The host's input and output folders, of their own; and one beside them, in which nothing is to be read."""
    made = tmp_path / "input", tmp_path / "output"
    for folder, name in zip(made, ("input_directory", "output_directory"), strict=True):
        folder.mkdir()
        monkeypatch.setattr(folder_paths, name, str(folder))
    return made


def born(representation: str = "fourier", **inputs: object) -> HostGenerator:
    settings = {"width": 32, "height": 16, "seed": 0, "hidden": 8, "layers": 1, "channels": 4}
    with torch.inference_mode():
        return NeuralImageGenerator.execute(representation, **settings | inputs).args[0]


def saved(generator: HostGenerator, prefix: str = "generators/msd") -> io.NodeOutput:
    """The node, run as the host runs it in `GRAPH`."""
    node = type("InGraph", (SaveGenerator,), {})
    hidden = {io.Hidden.unique_id: "3", io.Hidden.prompt: GRAPH, io.Hidden.extra_pnginfo: {"workflow": WORKFLOW}}
    node.hidden = io.HiddenHolder.from_dict(hidden)
    with torch.inference_mode():
        return node.execute(generator, prefix)


def loaded(name: str) -> HostGenerator:
    assert LoadGenerator.validate_inputs(name) is True
    with torch.inference_mode():
        return LoadGenerator.execute(name).args[0]


def told(generator: HostGenerator) -> dict[str, str]:
    """What Generator Info says, by name."""
    made = GeneratorInfo.execute(generator)
    assert made.ui.as_dict()["text"] == (made.args[0],)
    return dict(line.split(": ", 1) for line in made.args[0].splitlines())


def assert_same(one: HostGenerator, other: HostGenerator) -> None:
    first, second = one.generator.state_dict(), other.generator.state_dict()
    assert list(first) == list(second) and all(torch.equal(tensor, second[name]) for name, tensor in first.items())
    assert one.generator.config() == other.generator.config() and one.canvas == other.canvas


# --- there and back ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("representation", KINDS)
def test_what_is_saved_comes_back_to_the_bit(representation: str, folders: tuple[Path, Path]) -> None:
    first = born(representation, seed=3)
    made = saved(first)
    (name,) = stored.listed()
    assert name == "generators/msd_00001_.safetensors [output]"
    assert made.ui.as_dict()["text"] == ("saved as output/generators/msd_00001_.safetensors",)
    found = loaded(name)
    assert_same(first, found)
    parameters = list(found.generator.parameters())
    assert not any(p.is_inference() for p in parameters) and found.generator.render(found.canvas.view).requires_grad
    other = born(representation, seed=4)
    if representation != "pixels":  # those begin grey
        with pytest.raises(AssertionError):
            assert_same(other, found)
    saved(first)
    assert sorted(os.listdir(folders[1] / "generators")) == ["msd_00001_.safetensors", "msd_00002_.safetensors"]
    one, two = (path.read_bytes() for path in sorted((folders[1] / "generators").iterdir()))
    assert one == two, "the same generator gives the same bytes"


def test_a_batch_comes_back() -> None:
    first = born("siren", batch=3)
    saved(first)
    found = loaded(stored.listed()[0])
    assert isinstance(found.generator, Batch)
    assert_same(first, found)
    assert told(found)["kind"] == "3 x siren"


def test_a_step_goes_on_from_a_loaded_generator_as_from_the_one_that_was_saved() -> None:
    """Tomorrow is as today: the same pixels, and the file says what made it."""

    def step(generator: HostGenerator) -> HostGenerator:
        sockets = {"model": tiny_model("eps"), "positive": conditioning(3), "vae": tiny_vae()}
        with torch.inference_mode():
            return STEPS["sds"].execute(generator, steps=2, seed=5, cfg=1.0, checkpoint_every=0.0, **sockets).args[0]

    today = step(born())
    saved(today)
    tomorrow = loaded(stored.listed()[0])
    assert_same(today, tomorrow)
    assert_same(step(today), step(tomorrow))
    info = told(tomorrow)
    assert {name: info[name] for name in ("method", "steps", "seed", "prompt")} == {
        "method": "sds", "steps": "2", "seed": "5", "prompt": "a red circle",
    }  # fmt: skip
    assert told(today)["method"] == "sds" and "prompt" not in told(today)
    assert "file" not in told(step(tomorrow)), "what a step made is no longer what the file holds"


@pytest.mark.parametrize("kind", [comfy.latent_formats.SDXL, comfy.latent_formats.SD15, DemoLatent])
def test_a_latent_keeps_the_scale_of_its_model(kind: type) -> None:
    first = replace(born("latent"), latent_format=kind())
    saved(first)
    found = loaded(stored.listed()[0])
    assert type(found.latent_format) is kind and told(found)["latent format"] == kind.__name__
    with torch.inference_mode():
        one, other = (RenderGenerator.execute(one, 32, 16).args[1]["samples"] for one in (first, found))
    assert torch.equal(one, other)


def test_a_latent_without_a_model_or_of_one_that_is_not_here() -> None:
    saved(born("latent"), "a")
    save_generator(
        born("latent").generator, Path(folder_paths.get_output_directory(), "b.safetensors"), {"latent_format": "Oils"}
    )
    for name in stored.listed():
        assert loaded(name).latent_format is None and told(loaded(name))["latent format"] == "not known before a step"
    save_generator(
        born("latent").generator, Path(folder_paths.get_output_directory(), "c.safetensors"), {"latent_format": "SD3"}
    )
    with pytest.raises(ValueError, match="file: holds a latent of 4 channels in the format SD3; allowed are 16"):
        LoadGenerator.execute("c.safetensors [output]")


def test_a_kept_state_is_loaded_as_its_generator(folders: tuple[Path, Path]) -> None:
    first = born("siren", seed=9)
    (folders[1] / FOLDER).mkdir()
    save_state(start(first.generator, steps=40, seed=1), folders[1] / FOLDER / "abc.safetensors")
    name = f"{FOLDER}/abc.safetensors [output]"
    assert stored.listed() == [name]
    assert_same(first, loaded(name))
    assert told(loaded(name))["steps"] == "0 of 40"


def test_a_stopped_step_leaves_a_generator_that_can_be_drawn(folders: tuple[Path, Path]) -> None:
    """Of a latent, too: the state says the scale of its model."""
    node = type("InGraph", (STEPS["sds"],), {})
    graph = {"9": {"class_type": "MSD_SDSStep", "inputs": {}}}
    node.hidden = io.HiddenHolder.from_dict({io.Hidden.unique_id: "9", io.Hidden.dynprompt: DynamicPrompt(graph)})
    model, shown = tiny_model("eps"), []

    def stop(*_: object) -> str:
        shown.append(1)
        if len(shown) == 2:
            raise KeyboardInterrupt
        return ""

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt), torch.inference_mode():
        patch.setattr(run, "report", stop)
        node.execute(born("latent"), steps=6, seed=5, cfg=1.0, model=model, positive=conditioning(3))
    (name,) = stored.listed()
    found = loaded(name)
    info = told(found)
    assert (info["method"], info["steps"], info["seed"]) == ("sds", "2 of 6", "5")
    assert type(found.latent_format) is type(model.get_model_object("latent_format"))
    with torch.inference_mode():
        assert RenderGenerator.execute(found, 32, 16).args[1]["samples"].shape == (1, 4, 2, 4)


# --- what the file says -----------------------------------------------------------------------------------------------


def test_the_file_carries_the_workflow_as_pictures_do(
    folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(born(), "with")
    entries = text_entries(folders[1] / "with_00001_.safetensors")
    assert json.loads(entries["prompt"]) == GRAPH and json.loads(entries["workflow"]) == WORKFLOW
    monkeypatch.setattr(args, "disable_metadata", True)
    saved(born(), "without")
    assert not {"prompt", "workflow"} & set(text_entries(folders[1] / "without_00001_.safetensors"))


def test_a_workflow_that_is_too_large_does_not_lose_the_generator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(about, "MOST", 10)
    made = saved(born())
    assert "without its workflow, which has" in made.ui.as_dict()["text"][0]
    assert_same(born(), loaded(stored.listed()[0]))


def test_a_file_of_the_command_line(folders: tuple[Path, Path]) -> None:
    about = {"prompt": "a red\ncircle: round", "method": "msd", "size": "64x64", "workflow": "x" * 10}
    save_generator(make_generator("siren", hidden=8, layers=1), folders[0] / "cli.safetensors", about)
    assert stored.listed() == ["cli.safetensors"]
    info = told(loaded("cli.safetensors"))
    assert (info["prompt"], info["method"], info["made at"]) == ("a red circle: round", "msd", "64x64")
    assert info["file"] == "cli.safetensors" and "workflow" not in info
    save_generator(make_generator("siren", hidden=8, layers=1), folders[0] / "long.safetensors", {"prompt": "x" * 9999})
    assert len(told(loaded("long.safetensors"))["prompt"]) == 500


def test_info_counts() -> None:
    info = told(born("pixels"))
    assert info["kind"] == "pixels" and info["space"] == "image" and info["size"] == "32×16"
    assert info["parameters"] == "1,536, 6,144 bytes"


# --- the list, and changed files --------------------------------------------------------------------------------------


def test_only_generators_and_states_are_listed_the_newest_first(folders: tuple[Path, Path]) -> None:
    inside, output = folders
    for i, path in enumerate([inside / "b.safetensors", inside / "deep" / "a.safetensors", output / "c.SAFETENSORS"]):
        path.parent.mkdir(exist_ok=True)
        save_generator(born().generator, path)
        os.utime(path, (1e9 + i, 1e9 + i))
    write_tensors(output / "lora.safetensors", {"x": torch.zeros(2)}, "pt", "1", {})
    (output / "picture.png").write_bytes((inside / "b.safetensors").read_bytes())
    (output / "cut.safetensors").write_bytes((inside / "b.safetensors").read_bytes()[:50])
    (output / "half.12.partial.safetensors").write_bytes((inside / "b.safetensors").read_bytes())
    (output / "folder.safetensors").mkdir()
    expected = ["c.SAFETENSORS [output]", "deep/a.safetensors", "b.safetensors"]
    assert stored.listed() == expected
    schema = LoadGenerator.GET_SCHEMA()
    assert schema.inputs[0].options == expected
    if hasattr(os, "mkfifo"):
        os.mkfifo(output / "pipe.safetensors")
        (output / "away.safetensors").symlink_to(Path(__file__))
        assert stored.listed() == expected


def test_a_folder_of_pictures_is_read_once(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The host makes the list several times a queue: what has not changed is not read again, and what has, is."""
    _, output = folders
    saved(born())
    many = output / "many"
    many.mkdir()
    for i in range(50):
        (many / f"{i}.png").touch()
    long_ago = [folder for folder, _, _ in os.walk(output)] + [str(folders[0])]
    for folder in long_ago:
        os.utime(folder, ns=(0, 10**15))
    reading: list[str] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: (reading.append(str(folder)), scandir(folder))[1])
    first = stored.listed()
    assert len(first) == 1 and sorted(reading) == sorted(long_ago)
    reading.clear()
    assert stored.listed() == first and reading == []
    (elsewhere,) = (output / "generators").glob(f"*{stored.ENDING}")
    reading.clear()
    (many / "mine.safetensors").write_bytes(elsewhere.read_bytes())
    assert set(stored.listed()) == {*first, "many/mine.safetensors [output]"} and reading == [str(many)]
    reading.clear()
    elsewhere.unlink()
    assert stored.listed() == ["many/mine.safetensors [output]"] and str(output / "generators") in reading


def test_a_name_that_comes_in_the_instant_of_the_last_is_not_missed(folders: tuple[Path, Path]) -> None:
    """A file system may count a folder's time in two seconds: young ones are read each time."""
    saved(born())
    assert len(stored.listed()) == 1
    folder = folders[1] / "generators"
    when = folder.stat().st_mtime_ns
    (first,) = folder.iterdir()
    first.with_name("later.safetensors").write_bytes(first.read_bytes())
    os.utime(folder, ns=(when, when))
    assert len(stored.listed()) == 2


def test_a_file_anywhere_in_the_folders_loads_by_its_name(folders: tuple[Path, Path]) -> None:
    saved(born(), "my/own/place")
    assert stored.listed() == ["my/own/place_00001_.safetensors [output]"]
    assert_same(born(), loaded("my/own/place_00001_.safetensors [output]"))


def test_a_changed_file_runs_again() -> None:
    saved(born())
    (name,) = stored.listed()
    path, first = stored.path_of(name), LoadGenerator.fingerprint_inputs(name)
    os.utime(path, (1e9, 1e9))
    assert LoadGenerator.fingerprint_inputs(name) == first, "the same content is the same generator"
    save_generator(born(seed=1).generator, path)
    assert LoadGenerator.fingerprint_inputs(name) != first
    path.unlink()
    assert LoadGenerator.fingerprint_inputs(name) == "" and LoadGenerator.fingerprint_inputs("../x.safetensors") == ""


# --- what is refused --------------------------------------------------------------------------------------------------

OUTSIDE = {
    "above": "../secret.safetensors",
    "above the output": "../secret.safetensors [output]",
    "through a folder": "deep/../../secret.safetensors",
    "temporary": "secret.safetensors [temp]",
    "a link": "link.safetensors",
    "a linked folder": "linked/secret.safetensors",
    "no name": "",
    "a NUL": "a\0b.safetensors",
    "another ending": "secret.pt",
    "the folder": ".",
    "a number": 7,
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_nothing_outside_of_the_folders_is_read(case: str, folders: tuple[Path, Path]) -> None:
    secret = folders[0].parent / "secret.safetensors"
    save_generator(born().generator, secret)
    (folders[0] / "deep").mkdir()
    (folders[0] / "link.safetensors").symlink_to(secret)
    (folders[0] / "linked").symlink_to(secret.parent)
    for name in (OUTSIDE[case], str(secret)):
        assert str(LoadGenerator.validate_inputs(name)).startswith("file: got ")
        with pytest.raises(ValueError, match="file: got .*; allowed is a .safetensors file inside of the host's input"):
            LoadGenerator.execute(name)
    assert stored.listed() == []
    assert "which is not there" in LoadGenerator.validate_inputs("none.safetensors")
    assert LoadGenerator.validate_inputs() is True, "a value that comes through a link is looked at when it is there"


@pytest.mark.parametrize(
    "prefix", ["../x", "a/../../x", "/etc/x", "", ".", "..", "a\0b", "n" * 300, "file/x", "link/x"]
)
def test_nothing_outside_of_the_output_folder_is_written(prefix: str, folders: tuple[Path, Path]) -> None:
    (folders[1] / "file").write_text("no folder")
    (folders[1] / "link").symlink_to(folders[0])
    before = sorted(folders[0].parent.rglob("*"))
    with pytest.raises(ValueError, match="filename_prefix: got .*; allowed is a name inside of the output folder"):
        saved(born(), prefix)
    assert [path for path in sorted(folders[0].parent.rglob("*")) if path not in before and path.is_file()] == []


def test_a_file_that_is_there_is_not_replaced(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever number the host counts to."""
    saved(born(), "x")
    host = folder_paths.get_save_image_path
    monkeypatch.setattr(folder_paths, "get_save_image_path", lambda *a: (*host(*a)[:2], 1, *host(*a)[3:]))
    saved(born(seed=1), "x")
    assert sorted(os.listdir(folders[1])) == ["x_00001_.safetensors", "x_00002_.safetensors"]


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut": (lambda p: p.write_bytes(p.read_bytes()[:-5]), "is truncated, unreadable or not a safetensors file"),
    "empty": (lambda p: p.write_bytes(b""), "is truncated, unreadable or not a safetensors file"),
    "a picture": (lambda p: p.write_bytes(b"\x89PNG\r\n" * 99), "a header of .* bytes; allowed are"),
    "a pickle": (lambda p: torch.save({"x": torch.zeros(1)}, p), "a header of|not a safetensors file"),
    "foreign": (lambda p: write_tensors(p, {"x": torch.zeros(2)}, "pt", "1", {}), "of format 'pt'; allowed are 'msd-g"),
    "nothing said": (lambda p: write_tensors(p, {}, "", "1", {}), "of format ''; allowed are"),
    "another version": (
        lambda p: write_tensors(p, {}, "msd-generator", "9", {"kind": "siren", "config": "{}"}),
        "of version '9' of msd-generator",
    ),
    "NaN": (lambda p: save_generator(spoilt_generator(), p), "holds NaN or infinity"),
    "points": (lambda p: save_generator(Points(torch.ones(3, 2)), p), "holds points; allowed are generators of an im"),
    "a state without a generator": (
        lambda p: write_tensors(p, {}, "msd-state", "1", {"kind": "siren", "config": "{}"}),
        "the generator in .* is damaged",
    ),
}


def spoilt_generator() -> torch.nn.Module:
    generator = make_generator("siren", hidden=8, layers=1)
    with torch.no_grad():
        next(iter(generator.parameters())).fill_(torch.nan)
    return generator


@pytest.mark.parametrize("case", SPOILT)
def test_a_bad_file_is_one_clear_error(case: str, folders: tuple[Path, Path]) -> None:
    spoil, words = SPOILT[case]
    path = folders[0] / "x.safetensors"
    save_generator(born().generator, path)
    spoil(path)
    with pytest.raises(ValueError, match=f"^file: (?!(file|path):).*{words}"), torch.inference_mode():
        LoadGenerator.execute("x.safetensors")
    assert isinstance(stored.listed(), list)


def test_a_file_larger_than_the_memory_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    saved(born("pixels"))
    monkeypatch.setattr(memory, "available_memory", lambda: 3 * 6000)
    with pytest.raises(ValueError, match=r"^file: got \d+ bytes, which takes at least .* Free memory"):
        LoadGenerator.execute(stored.listed()[0])


def test_spoilt_files_are_loaded_or_refused(folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A few of those of tests/attack/files.py: what loads can be drawn, and is finite; nothing raises anything else."""
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[1] / "attack"))
    import files as attack

    path, ends = folders[0] / "x.safetensors", {True: 0, False: 0}
    for kind in ("fourier", "pixels", "latent"):
        save_generator(born(kind).generator, path)
        good = path.read_bytes()
        for i in range(40):
            rng = random.Random(f"{kind} {i}")  # noqa: S311
            path.write_bytes((attack.spoil_structure if i % 2 else attack.spoil_bytes)(good, rng))
            stored.listed()
            try:
                found = loaded("x.safetensors")
            except ValueError as error:
                assert str(error).startswith("file: ")
                ends[False] += 1
                continue
            with torch.no_grad():
                assert bool(found.generator.render(View(9, 7)).isfinite().all())
            told(found)
            ends[True] += 1
    assert ends[False] > 40 and ends[True] > 3
