"""Another package's method, estimator and generator, as docs/extending.md writes them, in the host's menus."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]
CODE = """
import asyncio, sys
sys.path[:0] = [{host!r}, {tests!r}]
import conftest  # imports the host and the pack, as for every test of this tier
import torch
from msd_pack.nodes import MeanShiftExtension
from msd_pack.nodes.generators import NeuralImageGenerator
from tiny_models import conditioning, tiny_model, tiny_vae

nodes = {{node.GET_SCHEMA().node_id: node for node in asyncio.run(MeanShiftExtension().get_node_list())}}
schemas = {{node_id: node.GET_SCHEMA() for node_id, node in nodes.items()}}
blend = {{entry.id: entry for entry in schemas["MSD_BlendStep"].inputs}}
step = {{entry.id: entry for entry in schemas["MSD_MeanShiftDistillStep"].inputs}}
kinds = {{entry.id: entry for entry in schemas["MSD_NeuralImageGenerator"].inputs}}["representation"].options
assert blend["share"].default == 0.5 and blend["share"].tooltip.startswith("Share of the way")
assert "noisy-step" in step["estimator"].options and step["spread"].optional and "stripes" in kinds
with torch.inference_mode():
    start = NeuralImageGenerator.execute("stripes", 32, 16, 0, 8, 1, 4).args[0]
    common = dict(steps=2, seed=0, cfg=2.0, learning_rate=0.01, optimizer="adam")
    common |= dict(model=tiny_model("eps"), vae=tiny_vae(), positive=conditioning(3), negative=conditioning(4))
    for node, own in ((nodes["MSD_BlendStep"], dict(share=0.4)), (nodes["MSD_MeanShiftDistillStep"], dict(
        estimator="noisy-step", spread=0.5, solver="ddim", solver_steps=2, samples=1))):
        made, picture, *_ = node.execute(start, **common, **own).args
        assert picture.shape == (1, 16, 32, 3) and made.generator.kind == "stripes"
        assert not torch.equal(made.generator.colours, start.generator.colours)
print("all seen")
"""


def test_it_is_in_the_menus_and_runs(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("plugin", TESTS / "plugin.py")
    plugin = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(plugin)
    outside = plugin.write_plugin(tmp_path / "outside")
    code = CODE.format(host=str(TESTS / "host"), tests=str(TESTS))
    path = os.pathsep.join([str(outside), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.stdout.strip().endswith("all seen"), done.stderr
