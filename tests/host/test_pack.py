"""The pack as the host sees it: entry point, schemas, help pages, translations, import time."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import msd_pack
import pytest
from comfy_api.latest import io
from msd_pack.msd_core.distillation import METHODS
from msd_pack.nodes import MeanShiftExtension, curve
from msd_pack.nodes.distill import label_of

ROOT = Path(__file__).resolve().parents[2]
METHOD_STEPS = {f"MSD_{label_of(name).replace(' ', '').replace('-', '')}Step" for name in METHODS}
NODES = {
    "MSD_NeuralImageGenerator": "Neural Image Generator",
    "MSD_MeanShiftDistillStep": "Mean-Shift Distill Step",
    "MSD_SDSStep": "SDS Step",
    "MSD_BandwidthScheduler": "Bandwidth Scheduler",
    "MSD_DDIMInversion": "DDIM Inversion",
    "MSD_Edit": "DreamSampler Edit",
    "MSD_Inpaint": "Kalman Inpaint",
    "MSD_Restore": "Restore Picture",
    "MSD_LoadDemoModel": "Load Demo Model",
    "MSD_RenderGenerator": "Render Generator",
    "MSD_VectorGenerator": "Vector Generator",
    "MSD_PixelArtGenerator": "Pixel Art Generator",
    "MSD_StickerGenerator": "Sticker Generator",
    "MSD_StickerToImage": "Sticker to Image",
    "MSD_GeneratorToSVG": "Vector to SVG",
    "MSD_SavePixelArt": "Save Pixel Art",
    "MSD_VolumeGenerator": "3-D Generator",
    "MSD_Cameras": "Cameras",
    "MSD_ViewPrompt": "View Prompt",
    "MSD_ViewConditioning": "View Conditioning",
    "MSD_RenderTurntable": "Render Turntable",
    "MSD_ExtractMesh": "Extract Mesh",
    "MSD_ProductSampler": "Product Sampler",
    "MSD_MeanShiftRefine": "Mean-Shift Refine",
    "MSD_DreamSampler": "DreamSampler",
    "MSD_Measurement": "Measurement",
    "MSD_PasteKnown": "Paste Known",
    "MSD_SaveGenerator": "Save Generator",
    "MSD_LoadGenerator": "Load Generator",
    "MSD_GeneratorInfo": "Generator Info",
}
SCHEMAS: dict[str, io.Schema] = {
    (schema := node.GET_SCHEMA()).node_id: schema for node in asyncio.run(MeanShiftExtension().get_node_list())
}
IMPORT = """
import os, sys, time, asyncio, importlib.util
sys.path.insert(0, os.environ["COMFYUI_PATH"]); sys.argv = ["", "--cpu"]
import comfy.options; comfy.options.enable_args_parsing()
import nodes, comfy_api.latest  # what the host has imported before it comes to its packs
sys.dont_write_bytecode, sys.pycache_prefix = False, os.environ["MSD_BYTECODE"]
host = start = time.process_time()
spec = importlib.util.spec_from_file_location("pack", os.environ["MSD_ROOT"] + "/__init__.py")
pack = importlib.util.module_from_spec(spec); sys.modules["pack"] = pack; spec.loader.exec_module(pack)
lazy = time.process_time() - start
asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
print(host, lazy, time.process_time() - start)
"""


def translations() -> dict:
    """The schemas' texts in the shape of the host's nodeDefs.json."""

    def described(thing: io.Input | io.Output) -> dict:
        text = {"name": thing.display_name or getattr(thing, "id", None) or thing.io_type}
        return text | ({"tooltip": thing.tooltip} if thing.tooltip else {})

    return {
        node_id: {
            "display_name": schema.display_name,
            "description": schema.description,
            "inputs": {entry.id: described(entry) for entry in schema.inputs},
            "outputs": {str(i): described(output) for i, output in enumerate(schema.outputs)},
        }
        for node_id, schema in SCHEMAS.items()
    }


def test_nodes_and_display_names() -> None:
    """Beside these every method has its step."""
    names = {node_id: schema.display_name for node_id, schema in SCHEMAS.items()}
    assert {node_id: name for node_id, name in names.items() if node_id in NODES} == NODES
    assert set(names) == set(NODES) | METHOD_STEPS
    assert all(names[node_id].endswith(" Step") for node_id in METHOD_STEPS)


def test_one_registration_form() -> None:
    """With NODE_CLASS_MAPPINGS beside it the host would ignore the V3 entry point."""
    assert inspect.iscoroutinefunction(msd_pack.comfy_entrypoint)
    assert not hasattr(msd_pack, "NODE_CLASS_MAPPINGS")


@pytest.mark.parametrize("node_id", SCHEMAS)
def test_every_node_is_valid_explained_and_helped(node_id: str) -> None:
    schema = SCHEMAS[node_id]
    schema.validate()
    assert schema.description
    unexplained = [i.id for i in schema.inputs if isinstance(i, io.WidgetInput) and not i.tooltip]
    assert unexplained == []
    page = ROOT / "web" / "docs" / f"{node_id}.md"
    if node_id in NODES or page.exists():  # a method's step explains itself by its fields
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {schema.display_name}\n")
        known = {"seed", "representation"}  # what a seed is, and the table of the representations
        widgets = {i.id for i in schema.inputs if isinstance(i, io.WidgetInput)} - known
        assert [name for name in widgets if "**Inputs**" in text and f"`{name}`" not in text] == []


def test_translations_are_those_of_the_schemas() -> None:
    """Set MSD_WRITE_LOCALES=1 to write the file anew, on the newest host."""
    path = ROOT / "locales" / "en" / "nodeDefs.json"
    if os.environ.get("MSD_WRITE_LOCALES"):
        path.write_text(json.dumps(translations(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    written, schemas = json.loads(path.read_text(encoding="utf-8")), translations()
    if not curve.KNOWN:
        assert written["MSD_BandwidthScheduler"]["inputs"].pop("curve"), "an input of newer hosts"
    assert set(NODES) <= set(written) <= set(schemas)
    assert written == {node_id: schemas[node_id] for node_id in written}


def test_the_host_brings_all_requirements() -> None:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if line.strip() and not line.startswith("#")] == []


def test_import_is_quick(tmp_path: Path) -> None:
    """The pack with all its nodes costs at most 3.5 % of what the host takes to import itself (about .1 s of 4 s).

    Of processor time, the best of up to five, the first of which compiles; as a share, since machines differ.
    """
    environment = os.environ | {"MSD_ROOT": str(ROOT), "MSD_BYTECODE": str(tmp_path)}
    for _ in range(5):
        done = subprocess.run(  # noqa: S603
            [sys.executable, "-c", IMPORT], capture_output=True, text=True, env=environment
        )
        assert done.returncode == 0, done.stderr
        host, lazy, whole = (float(number) for number in done.stdout.split()[-3:])
        if lazy < 0.004 * host and whole < 0.035 * host:
            return
    pytest.fail(f"the host took {host:.3f} s, the entry point {lazy:.3f} s, with its nodes {whole:.3f} s")


def test_importing_the_pack_imports_neither_torch_nor_comfy() -> None:
    code = f"import sys; sys.path.insert(0, {str(ROOT.parent)!r}); __import__({ROOT.name!r}); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603
    assert not {"torch", "comfy", "numpy", "PIL"} & set(done.stdout.split())


RUN = f"""{IMPORT}
made = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
from pack.msd_core.demo.model import load_demo_model
from pack.msd_core.model import load_model
load_demo_model(), load_model(kind="solids")
print(len([node.GET_SCHEMA() for node in made]))
"""


def archived() -> list[str]:
    """The files that `comfy node pack` puts into the registry's archive: tracked, and not left out by .comfyignore."""
    git = ["git", "-C", str(ROOT)]
    tracked = subprocess.run([*git, "ls-files"], capture_output=True, text=True, check=True).stdout  # noqa: S603
    ignore = [*git, "-c", f"core.excludesFile={ROOT / '.comfyignore'}", "check-ignore", "--no-index", "--stdin"]
    left_out = subprocess.run(ignore, input=tracked, capture_output=True, text=True, check=False).stdout  # noqa: S603
    return sorted(set(tracked.splitlines()) - set(left_out.splitlines()))


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a git checkout: what is archived is what git tracks")
def test_the_archive_holds_what_the_nodes_need_and_no_more(tmp_path: Path) -> None:
    """No tests, studies, results or command line; small; and a pack of these files alone has all its nodes."""
    files = archived()
    unwanted = ("tests/", "assets/", "docs/", "msd_core/research/", "msd_core/cli/", "msd_core/sweep/", ".ci/")
    assert [file for file in files if file.startswith(unwanted)] == []
    spoken = {f"locales/{language}/nodeDefs.json" for language in ("en", "ja", "zh")}
    assert spoken | {"web/docs/MSD_Edit.md", "web/docs/MSD_Edit/ja.md", "web/docs/MSD_Edit/zh.md"} <= set(files)
    offered = {str(path.relative_to(ROOT)) for kind in ("subgraphs", "workflows") for path in (ROOT / kind).iterdir()}
    assert offered <= set(files) and any(name.startswith("subgraphs/") for name in offered)
    assert sum((ROOT / file).stat().st_size for file in files) < 35e6, "two models are 32 MB of it"
    for file in files:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file)
    environment = os.environ | {"MSD_ROOT": str(tmp_path), "MSD_BYTECODE": str(tmp_path / "bytecode")}
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-c", RUN], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0 and done.stdout.split()[-1] == str(len(SCHEMAS)), done.stderr
