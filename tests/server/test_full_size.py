"""A file of SD1.5's full size through the stock loader: distilled, and as good as new for the stock nodes afterwards.

Opt in with MSD_FULL_SIZE=1: it takes minutes, 2.1 GB of disk and 7 GB of memory. The weights are random.
"""

from __future__ import annotations

import io
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from comfy_server import Server
from PIL import Image

pytestmark = pytest.mark.skipif("MSD_FULL_SIZE" not in os.environ, reason="minutes and gigabytes; set MSD_FULL_SIZE=1")

LOADER, MODEL, CLIP, VAE = "1", ["1", 0], ["1", 1], ["1", 2]
SHARED = {"model": MODEL, "positive": ["2", 0], "negative": ["3", 0], "vae": VAE, "seed": 0, "cfg": 7.0}
ADAM = {"learning_rate": 0.01, "optimizer": "adam", "steps": 2}
SDS = {"weighting": "sigma", "anneal": "none", "t_min": 0.02, "t_max": 0.98, "pull": "latent"}
MSD = {"estimator": "exact", "solver": "ddim", "solver_steps": 2, "samples": 1, "pull": "image"}
START = {"representation": "fourier", "width": 64, "height": 64, "seed": 0, "hidden": 64, "layers": 3, "channels": 4}
VOLUME = {"width": 64, "height": 64, "seed": 0, "grid": "dense", "rays": 64, "ray_samples": 32, "background": "solved"}
VOLUME |= {"blob": 10.0, "passes": 1, "opacity": 0.0, "entropy": 0.0, "thickness": 0.0, "orientation": 0.0}
SAMPLER = {"seed": 0, "steps": 1, "cfg": 7.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 0.5}


def node(kind: str, **inputs: object) -> dict:
    return {"class_type": kind, "inputs": inputs}


def graph(name: str) -> dict:
    """SDS, then MSD, then the stock nodes on the result."""
    return {
        LOADER: node("CheckpointLoaderSimple", ckpt_name=name),
        "2": node("CLIPTextEncode", clip=CLIP, text="a photograph of an astronaut riding a horse"),
        "3": node("CLIPTextEncode", clip=CLIP, text=""),
        "4": node("MSD_NeuralImageGenerator", **START),
        "5": node("MSD_RenderGenerator", generator=["4", 0], width=64, height=64),
        "6": node("MSD_SDSStep", generator=["4", 0], **SHARED, **ADAM, **SDS),
        "7": node("MSD_MeanShiftDistillStep", generator=["6", 0], **SHARED, **ADAM, **MSD),
        "8": node("MSD_RenderGenerator", generator=["7", 0], width=64, height=64),
        "9": node("VAEEncode", pixels=["7", 1], vae=VAE),
        "10": node("KSampler", latent_image=["9", 0], model=MODEL, positive=["2", 0], negative=["3", 0], **SAMPLER),
        "11": node("VAEDecode", samples=["10", 0], vae=VAE),
        "12": node("SaveImage", images=["11", 0], filename_prefix="stock"),
    }


def graph_in_space(name: str) -> dict:
    """An object under prompts by view, from four cameras."""
    step = SHARED | ADAM | MSD | {"positive": ["2", 0], "inner_steps": 1, "generator": ["4", 0]}
    view = {"width": 64, "height": 64, "frames": 2, "fps": 8.0, "yaw": 0.0, "pitch": 10.0}
    return {
        LOADER: node("CheckpointLoaderSimple", ckpt_name=name),
        "2": node("MSD_ViewPrompt", clip=CLIP, text="a DSLR photograph of an astronaut, {side}", blend=0.0),
        "3": node("CLIPTextEncode", clip=CLIP, text=""),
        "4": node("MSD_VolumeGenerator", **VOLUME),
        "5": node("MSD_RenderTurntable", generator=["4", 0], **view),
        "6": node("MSD_MeanShiftDistillStep", **step),
        "7": node("MSD_RenderTurntable", generator=["6", 0], **view),
    }


@pytest.fixture
def checkpoint(server: Server, host) -> Iterator[str]:  # noqa: ANN001  (tests/conftest.py: Host)
    """Name of a checkpoint that lies in the server's folder while the test runs."""
    path = server.base / "models" / "checkpoints" / "random_sd15.safetensors"
    path.parent.mkdir(exist_ok=True)
    script = Path(__file__).resolve().parents[1] / "host" / "full_size.py"
    subprocess.run([host.python, script, path], check=True, env=os.environ | {"COMFYUI_PATH": str(host.path)})  # noqa: S603
    try:
        yield path.name
    finally:
        path.unlink()


def test_the_stock_loader_s_model_is_distilled_and_still_samples(server: Server, checkpoint: str) -> None:
    entry = server.run(graph(checkpoint), timeout=3600.0)
    assert "model_type EPS" in server.tail(100_000)
    start, sds, msd, stock = (
        np.array(Image.open(io.BytesIO(server.image(entry, which))), dtype=float) for which in ("5", "6", "7", "12")
    )
    assert np.abs(sds - start).mean() > 1.0 and np.abs(msd - sds).mean() > 1.0  # of 255
    assert stock.shape == (64, 64, 3) and stock.std() > 1.0  # NaN would be black


def test_an_object_is_distilled_under_prompts_by_view(server: Server, checkpoint: str) -> None:
    began = time.monotonic()
    entry = server.run(graph_in_space(checkpoint), timeout=3600.0)
    print(f"two steps of four views of 64x64, the loading included: {time.monotonic() - began:.0f} s, {peak(server)}")
    start, made = (np.array(Image.open(io.BytesIO(server.image(entry, which))), dtype=float) for which in ("5", "7"))
    assert np.abs(made - start).mean() > 1.0  # of 255


def peak(server: Server) -> str:
    """The most memory that the server has had, in words."""
    status = Path(f"/proc/{server.process.pid}/status")
    lines = status.read_text(encoding="utf-8").splitlines() if status.exists() else []
    return next((line for line in lines if line.startswith("VmHWM")), "memory unknown")
