"""What stops a step loses nothing: its state is kept under the graph's digest, and the same graph goes on from it."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from pathlib import Path

import comfy.model_management
import folder_paths
import pytest
import torch
from comfy_api.latest import io
from comfy_execution.graph import DynamicPrompt
from comfy_execution.utils import CurrentNodeContext
from msd_pack.msd_core.optimize import start as first_state
from msd_pack.msd_core.preset import preset_of
from msd_pack.msd_core.state import State, load_state
from msd_pack.nodes import kept
from msd_pack.nodes import run as run_module
from msd_pack.nodes.distill import STEPS
from msd_pack.nodes.generators import HostGenerator, NeuralImageGenerator
from msd_pack.nodes.kept import FOLDER, ancestry, kept_for
from tiny_models import conditioning, tiny_model, tiny_vae

GRAPH = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "tiny.safetensors"}},
    "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "a red circle", "clip": ["1", 1]}},
    "7": {"class_type": "MSD_NeuralImageGenerator", "inputs": {"representation": "fourier", "width": 32}},
    "9": {
        "class_type": "MSD_MeanShiftDistillStep",
        "inputs": {
            "generator": ["7", 0],
            "model": ["1", 0],
            "positive": ["2", 0],
            "steps": 6,
            "checkpoint_every": 10.0,
        },
    },
}
SETTINGS = {"steps": 6, "seed": 0, "cfg": 1.0, "learning_rate": 0.01, "optimizer": "adam"}
SETTINGS |= {"estimator": "exact", "solver": "ddim", "solver_steps": 2, "samples": 1}


@pytest.fixture(autouse=True)
def output(tmp_path: Path) -> Iterator[Path]:
    """The folder of kept states, in an output folder of its own."""
    before = folder_paths.get_output_directory()
    folder_paths.set_output_directory(str(tmp_path))
    yield tmp_path / FOLDER
    folder_paths.set_output_directory(before)


def changed(node: str, **inputs: object) -> dict:
    graph = copy.deepcopy(GRAPH)
    graph[node]["inputs"] |= inputs
    return graph


def born() -> HostGenerator:
    with torch.inference_mode():
        return NeuralImageGenerator.execute("fourier", 32, 16, 0, 8, 1, 4).args[0]


def test_a_picture_that_cannot_be_drawn_loses_nothing(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = step()

    def fails(*_: object) -> None:
        raise RuntimeError("decode failed")

    with monkeypatch.context() as patched:
        patched.setattr(run_module.Run, "_picture", fails)
        with pytest.raises(RuntimeError, match="decode failed"):
            step()
    assert len(list(output.iterdir())) == 1
    assert torch.equal(step(), whole) and not list(output.iterdir())


def step(graph: dict | None = None, **inputs: object) -> torch.Tensor:
    """The node's generator, run as the host runs it in ``graph``."""
    node = type("InGraph", (STEPS["msd"],), {"method": "msd", "node_id": "MSD_MeanShiftDistillStep"})
    node.hidden = io.HiddenHolder.from_dict(
        {io.Hidden.unique_id: "9", io.Hidden.dynprompt: DynamicPrompt(GRAPH if graph is None else graph)}
    )
    with torch.inference_mode():
        sockets = {"model": tiny_model("eps"), "positive": conditioning(3), "vae": tiny_vae()}
        made = node.execute(born(), **SETTINGS | sockets | inputs).args[0]
    return torch.cat([p.detach().flatten() for p in made.generator.parameters()])


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch):  # noqa: ANN201
    """`stop_after(n, error)`: the step's n-th progress raises ``error``."""

    def arm(count: int, error: BaseException) -> list[int]:
        original, steps = run_module.report, []

        def report(state: State, *rest: object) -> str:
            steps.append(state.step)
            if len(steps) == count:
                raise error
            return original(state, *rest)

        monkeypatch.setattr(run_module, "report", report)
        return steps

    return arm


ENDS = {
    "Cancel": comfy.model_management.InterruptProcessingException(),
    "an error": RuntimeError("out of luck"),
    "no memory": comfy.model_management.OOM_EXCEPTION("out of memory"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_same_graph_goes_on(end: str, output: Path, stop_after, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN001
    whole = step()
    assert not list(output.glob("*")), "nothing is left of a step that was finished"
    stop_after(3, ENDS[end])
    with pytest.raises(type(ENDS[end])):
        step()
    (kept,) = output.iterdir()
    assert kept.suffix == ".safetensors"
    monkeypatch.undo()
    steps = stop_after(99, ENDS[end])
    assert torch.equal(step(), whole)
    assert steps == [4, 5, 6]
    assert not list(output.iterdir())


def test_a_masked_run_goes_on_towards_what_it_began_with(output: Path, stop_after, monkeypatch) -> None:  # noqa: ANN001
    mask = {"mask": torch.tensor([[1.0, 0.0]]).repeat(16, 16)}
    whole, free = step(**mask), step()
    stop_after(3, RuntimeError())
    with pytest.raises(RuntimeError):
        step(**mask)
    monkeypatch.undo()
    (kept,) = output.iterdir()
    first, begun = load_state(kept).first, born().generator.state_dict()
    assert first is not None and all(torch.equal(p, begun[name]) for name, p in first.state_dict().items())
    assert torch.equal(step(**mask), whole) and not torch.equal(whole, free)


@pytest.mark.parametrize(
    ("graph", "inputs", "goes_on"),
    [
        (changed("2", text="a blue circle"), {}, False),
        (changed("1", ckpt_name="other.safetensors"), {}, False),
        (changed("9", checkpoint_every=1.0), {"checkpoint_every": 1.0}, True),
        ({f"{int(k) + 10}": v for k, v in GRAPH.items()} | GRAPH, {}, True),
        (GRAPH, {"seed": 1}, False),
        (GRAPH, {"steps": 7}, False),
        (GRAPH, {"checkpoint_every": 0.0}, False),
    ],
    ids=["prompt", "model", "checkpoint_every", "other nodes", "seed", "steps", "off"],
)
def test_another_graph_starts_anew(graph: dict, inputs: dict, goes_on: bool, stop_after, monkeypatch) -> None:  # noqa: ANN001
    stop_after(3, RuntimeError())
    with pytest.raises(RuntimeError):
        step()
    monkeypatch.undo()
    steps = stop_after(99, RuntimeError())
    step(graph, **inputs)
    assert (steps[0] == 4) is goes_on


@pytest.mark.parametrize("name", ["mask", "source"])
def test_another_picture_beside_the_generator_starts_anew(name: str, output: Path, stop_after, monkeypatch) -> None:  # noqa: ANN001
    """Its file may have been changed under the same name, which the graph does not tell."""
    one = {"mask": torch.tensor([[1.0, 0.0]]).repeat(16, 16), "source": torch.full((1, 16, 32, 3), 0.25)}
    given = one if name == "source" else {"mask": one["mask"]}

    def run(beside: dict) -> None:
        if name == "mask":
            step(**beside)
            return
        node = type("InGraph", (STEPS["dds"],), {"method": "dds", "node_id": "MSD_DDSStep"})
        node.hidden = io.HiddenHolder.from_dict({io.Hidden.unique_id: "9", io.Hidden.dynprompt: DynamicPrompt(GRAPH)})
        inputs = node.GET_SCHEMA().inputs
        made = {entry.id: entry.default for entry in inputs if getattr(entry, "default", None) is not None}
        sockets = {"model": tiny_model("eps"), "positive": conditioning(3), "negative": conditioning(4)}
        sockets |= {"source_positive": conditioning(5), "vae": tiny_vae()}
        with torch.inference_mode():
            node.execute(born(), **made | sockets | {"steps": 4} | beside)

    stop_after(2, RuntimeError())
    with pytest.raises(RuntimeError):
        run(given)
    monkeypatch.undo()
    steps = stop_after(2, RuntimeError())
    with pytest.raises(RuntimeError):
        run({**given, name: given[name] * 0.5})
    assert steps == [1, 2] and len(list(output.iterdir())) == 2
    steps.clear()
    monkeypatch.undo()
    steps = stop_after(99, RuntimeError())
    run(given)
    assert steps[0] == 3, "the same ones go on"


def test_it_is_kept_by_time_as_for_a_kill(output: Path, stop_after, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN001
    whole = step()
    monkeypatch.setattr(run_module.Run, "_stopped", lambda *_: None)  # nothing runs after a kill
    stop_after(4, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        step(checkpoint_every=1e-9)
    (kept,) = output.iterdir()
    kept.with_name(f"{kept.stem}.4711.partial{kept.suffix}").write_bytes(b"half")
    monkeypatch.undo()
    steps = stop_after(99, RuntimeError())
    assert torch.equal(step(), whole) and steps == [5, 6]
    assert not list(output.iterdir())


def test_a_damaged_state_is_set_aside(output: Path, stop_after, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ANN001
    whole = step()
    stop_after(3, RuntimeError())
    with pytest.raises(RuntimeError):
        step()
    monkeypatch.undo()
    (kept,) = output.iterdir()
    kept.write_bytes(kept.read_bytes()[:-9])
    assert torch.equal(step(), whole)
    assert [path.suffix for path in output.iterdir()] == [".damaged"]


def test_a_folder_that_cannot_be_written_to_stops_no_step(output: Path) -> None:
    output.write_text("a file where the folder should be")
    step(checkpoint_every=1e-9)


def test_outside_of_a_graph_nothing_is_kept(output: Path, stop_after) -> None:  # noqa: ANN001
    stop_after(2, RuntimeError())
    with pytest.raises(RuntimeError), torch.inference_mode():
        sockets = {"model": tiny_model("eps"), "positive": conditioning(3), "vae": tiny_vae()}
        STEPS["msd"].execute(born(), **SETTINGS | sockets)
    assert not output.exists()


def test_the_digest_of_a_deep_graph() -> None:
    """Thousands of nodes in a row, and one that many lead to."""
    graph = {"0": {"class_type": "Start", "inputs": {"x": 1}}}
    graph |= {
        str(i): {"class_type": "Link", "inputs": {"a": [str(i - 1), 0], "b": [str(i - 1), 1]}} for i in range(1, 5000)
    }
    first = ancestry(DynamicPrompt(graph), "4999")
    graph["0"]["inputs"]["x"] = 2
    assert ancestry(DynamicPrompt(graph), "4999") != first


@pytest.mark.parametrize("what", ["another prompt", "another hint", "the same", "another place in a list"])
def test_what_the_graph_does_not_tell(what: str, stop_after, monkeypatch) -> None:  # noqa: ANN001
    """A node upstream may not give the same twice; and in a list the host runs the same graph for each."""

    class Hinted:
        """A ControlNet, as far as it is told from another."""

        previous_controlnet = None

        def __init__(self, shade: float) -> None:
            self.cond_hint_original = torch.full((1, 3, 8, 8), shade)

    def place(seed: int, shade: float, index: int) -> object:
        with CurrentNodeContext("prompt", "9", index):
            given = born().generator, preset_of("msd"), 0, {}, {"positive": [{"control": Hinted(shade), "x": seed}]}
            return kept_for(DynamicPrompt(GRAPH), "9", *given)

    if what == "another prompt":
        stop_after(3, RuntimeError())
        with pytest.raises(RuntimeError):
            step()
        monkeypatch.undo()
        steps = stop_after(99, RuntimeError())
        step(positive=conditioning(5))
        assert steps[0] == 1
        return
    other = {"another hint": (3, 0.5, 0), "the same": (3, 0.25, 0), "another place in a list": (3, 0.25, 1)}[what]
    assert (place(3, 0.25, 0) == place(*other)) is (what == "the same")


def test_of_many_that_nobody_goes_on_with_the_newest_stay(output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 3)
    state = first_state(born().generator, steps=3)
    for number in range(5):
        path = output / f"{number}.safetensors"
        kept.Kept(path).save(state)
        os.utime(path, (1000.0 + number, 1000.0 + number))
    assert sorted(path.stem for path in output.iterdir()) == ["2", "3", "4"]
