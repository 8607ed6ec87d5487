"""Seconds of a step inside ComfyUI by part, as `msd bench` tells them headless: a model of SD1.5's full size.

    python tests/measure/bench.py                              # random weights, 64 pixels: minutes, 7 GB of memory
    python tests/measure/bench.py --size 512 --steps 2 --method sds
    python tests/measure/bench.py --checkpoint sd15.safetensors --size 512

The loop runs where a step node runs it, inside the host's sampler, through the stock loader's MODEL and VAE. ComfyUI is
found as the tests find it ($COMFYUI_PATH, ~/comfy/ComfyUI).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from inside import command, module  # noqa: E402

CFG = 7.5


def parsed() -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a file for the stock loader (default: random weights)")
    parser.add_argument("--size", type=int, default=64, help="pixels a side (default: 64)")
    parser.add_argument("--steps", type=int, default=3, help="counted after a first one (default: 3)")
    parser.add_argument("--method", default="msd", help="of distillation (default: msd)")
    return parser.parse_args()


def measure(checkpoint: Path, size: int, steps: int, method: str) -> str:
    """The table of ``steps`` steps on the model of a checkpoint."""
    import comfy.sd
    import torch
    from msd_pack.msd_core.bench import bench
    from msd_pack.msd_core.cli.bench import told
    from msd_pack.msd_core.generators import generator_for_size
    from msd_pack.nodes import host
    from msd_pack.nodes.guiders import latent_grid, make_guider

    with torch.inference_mode():
        model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint), output_vae=True, output_clip=True)
        sides = [clip.encode_from_tokens_scheduled(clip.tokenize(words)) for words in ("a photograph of a boat", "")]
    guider, generator = make_guider(model, *sides, CFG), generator_for_size("fourier", size, size, seed=0)

    def loop(session: host.Session) -> str:
        own = generator.to(session.device)
        return told(bench("", steps=steps, model=session.model(), method=method, generator=own, cfg=CFG))

    return host.run(guider, loop, *latent_grid(guider, generator.canvas), vae=vae, rows=2)


def main(arguments: argparse.Namespace) -> None:
    """The table, printed; of random weights unless a checkpoint is given."""
    numbers = arguments.size, arguments.steps, arguments.method
    if arguments.checkpoint is not None:
        print(measure(arguments.checkpoint, *numbers))
        return
    import safetensors.torch

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "random_sd15.safetensors"
        safetensors.torch.save_file(module(HERE.parent / "host" / "full_size.py").checkpoint(), file)
        print(measure(file, *numbers))


if __name__ == "__main__":
    sys.exit(command(Path(__file__).resolve(), parsed(), main))
