"""A real ComfyUI server that is killed, interrupted, and asked for too much, while a step node works.

    python tests/attack/server.py --kills 50 --cancels 20 --seed 1
    python tests/attack/server.py --kills 50 --cancels 20 --no-hostile    # kills and cancels alone

Kill: SIGKILL at a random moment of a step, then the server is started again. Cancel: /interrupt at a random moment.
Either way the same graph, queued again, ends with the picture of the run that was not stopped, to the bit; what is kept
in the output folder always loads, and nothing is left there in the end. Hostile widgets: sizes, counts and names that a
shared workflow could hold; the server answers each with an error or ends it under Cancel, and goes on.
ComfyUI is found as the tests find it ($COMFYUI_PATH, ~/comfy/ComfyUI).
"""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import random
import sys
import tempfile
import time
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "server")]

from comfy_server import Server, started  # noqa: E402

from msd_core.state import load_state  # noqa: E402

RENDER, PICTURE = "7", "40"
FOLDER = "msd_unfinished"
STEPS = 40


def module(path: Path) -> ModuleType:
    """A file of the tests as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None  # noqa: S101
    loaded = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def changed(graph: dict, node: str, **inputs: object) -> dict:
    """A copy of the graph with other inputs in one node."""
    graph = copy.deepcopy(graph)
    graph[node]["inputs"] |= inputs
    return graph


def step_of(graph: dict) -> str:
    """The number of the step node."""
    return next(number for number, node in graph.items() if node["class_type"] == "MSD_MeanShiftDistillStep")


def short_graph() -> dict:
    """The text template in `STEPS` cheap steps, saved often, with the step's picture as its only output."""
    graph = json.loads((ROOT / "tests/server/workflows/text_to_neural_image.json").read_text(encoding="utf-8"))
    step = step_of(graph)
    graph = changed(graph, step, steps=STEPS, estimator="one-step", seed=77, checkpoint_every=0.05)
    ends = ("MSD_RenderGenerator", "SaveImage", "PreviewImage")
    graph = {number: node for number, node in graph.items() if node["class_type"] not in ends}
    return graph | {PICTURE: {"class_type": "PreviewImage", "inputs": {"images": [step, 1]}}}


def kept(server: Server) -> list[Path]:
    """The states in the output folder."""
    return sorted((server.base / "output" / FOLDER).glob("*.safetensors"))


def other(server: Server, graph: dict) -> None:
    """Run something else: the cache keeps one graph."""
    server.run(changed(graph, step_of(graph), steps=1, seed=5))


def strike(server: Server, graph: dict, chance: random.Random, length: float, how: str) -> str:
    """Queue ``graph`` and stop it at a random moment; what was there then."""
    prompt = server.queue(graph)
    time.sleep(chance.uniform(0, 1.2 * length))
    if how == "kill":
        server.process.kill()
        server.process.wait()
        states = kept(server)
        for path in states:
            load_state(path)  # whole, or this raises
        return "state kept" if states else "no state"
    server.post("/interrupt", {})
    status = server.wait(prompt)["status"]["status_str"]
    states = kept(server)
    if status == "success" and states:
        raise AssertionError("the run was finished, and a state was left")
    return f"{status}, {'state kept' if states else 'no state'}"


def kills(arguments: argparse.Namespace, place: Path, host: object, packs: dict[str, Path]) -> list[str]:
    """Kill and start again, and cancel; what happened each time."""
    graph, chance, told = short_graph(), random.Random(arguments.seed), []  # noqa: S311
    with started(host.path, host.python, place, packs) as server:  # type: ignore[attr-defined]
        begin = time.monotonic()
        whole = server.image(server.run(graph), PICTURE)
        length = time.monotonic() - begin
        other(server, graph)
        for _ in range(arguments.cancels):
            what = strike(server, graph, chance, length, "cancel")
            other(server, graph)
            check(server, graph, whole)
            other(server, graph)
            told.append(f"cancel: {what}")
            print(told[-1], flush=True)
    for i in range(arguments.kills):
        with started(host.path, host.python, place, packs) as server:  # type: ignore[attr-defined]
            if i:
                check(server, graph, whole)
                other(server, graph)
            told.append(f"kill: {strike(server, graph, chance, length, 'kill')}")
            print(told[-1], flush=True)
    with started(host.path, host.python, place, packs) as server:  # type: ignore[attr-defined]
        check(server, graph, whole)
    return told


def check(server: Server, graph: dict, whole: bytes) -> None:
    """The same graph ends as the run that was not stopped, and leaves nothing."""
    if server.image(server.run(graph), PICTURE) != whole:
        raise AssertionError("the run that went on ends with another picture")
    if kept(server):
        raise AssertionError("a state is left of a finished run")


def hostile(graph: dict) -> list[tuple[str, dict]]:
    """Graphs with widgets that a shared workflow could hold."""
    step = step_of(graph)
    start = next(n for n, node in graph.items() if node["class_type"] == "MSD_NeuralImageGenerator")
    curve = next(n for n, node in graph.items() if node["class_type"] == "MSD_BandwidthScheduler")
    render = {"class_type": "MSD_RenderGenerator", "inputs": {"generator": [start, 0], "width": 16384, "height": 16384}}
    cases: list[tuple[str, dict]] = []
    for name in ("width", "height"):
        cases += [(f"{name} {v}", changed(graph, start, **{name: v})) for v in (8192, 16384, 10**9, -8, 0, 7, "x")]
    cases.append(("8192 x 8192", changed(graph, start, width=8192, height=8192)))
    cases.append(("a large network", changed(graph, start, hidden=4096, layers=64)))
    cases += [(f"steps {v}", changed(graph, step, steps=v)) for v in (100_000, 10**9, 0, -1, "nan")]
    cases += [(f"samples {v}", changed(graph, step, samples=v)) for v in (256, 10**6, 0)]
    cases += [(f"solver_steps {v}", changed(graph, step, estimator="exact", solver_steps=v)) for v in (1000, 10**9)]
    cases += [(f"learning_rate {v}", changed(graph, step, learning_rate=v)) for v in (1e6, 0, -1, "1e999")]
    cases += [(f"seed {v}", changed(graph, step, seed=v)) for v in (2**63 - 1, 2**64, -1)]
    cases += [(f"cfg {v}", changed(graph, step, cfg=v)) for v in (1e6, -1e6)]
    cases += [(f"estimator {v!r}", changed(graph, step, estimator=v)) for v in ("best", "x" * 100_000, 3)]
    cases += [(f"checkpoint_every {v}", changed(graph, step, checkpoint_every=v)) for v in (-1, 1e9, 1e-9)]
    cases += [(f"curve {v}", changed(graph, curve, **v)) for v in ({"start": 1e9}, {"end": 0}, {"steps": 10**9})]
    cases.append(("render 16384 x 16384", {start: graph[start], RENDER: render}))
    return cases


def ask_too_much(place: Path, host: object, packs: dict[str, Path], patience: float) -> list[str]:
    """Post every hostile graph; refused, failed with words, or still at work and then ended by Cancel."""
    graph, told = short_graph(), []
    with started(host.path, host.python, place, packs) as server:  # type: ignore[attr-defined]
        for name, hostile_graph in hostile(graph):
            told.append(f"{name}: {answer(server, hostile_graph, patience)}")
            print(told[-1], flush=True)
        server.run(changed(graph, step_of(graph), steps=2))
    return told


def answer(server: Server, graph: dict, patience: float) -> str:
    """How the server answers ``graph``; it must never go down, nor ignore Cancel for long."""
    posted = server.post("/prompt", {"prompt": graph, "client_id": "attack"})
    if "prompt_id" not in posted:
        return "refused by the host"
    try:
        entry = server.wait(posted["prompt_id"], patience)
    except TimeoutError:
        pressed = time.monotonic()
        server.post("/interrupt", {})
        server.wait(posted["prompt_id"], 60)
        return f"at work for {patience:g} s, then ended {time.monotonic() - pressed:.1f} s after Cancel"
    errors = [data["exception_message"] for event, data in entry["status"]["messages"] if event == "execution_error"]
    return f"error: {errors[0].strip()[:150]}" if errors else "done"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("kills", 50), ("cancels", 20), ("seed", 0), ("patience", 20)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--hostile", action=argparse.BooleanOptionalAction, default=True, help="hostile widgets, too")
    arguments = parser.parse_args()
    host = module(ROOT / "tests" / "conftest.py").find_host()
    if host.missing:
        print(host.missing, file=sys.stderr)
        return 2
    packs, told = {"mean-shift": ROOT}, []
    if arguments.hostile:
        with tempfile.TemporaryDirectory() as place:
            told += ask_too_much(Path(place), host, packs, arguments.patience)
    with tempfile.TemporaryDirectory() as place:
        told += kills(arguments, Path(place), host, packs)
    print(f"{len(told)} attacks, no picture that differs, nothing lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
