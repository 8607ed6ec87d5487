"""Round trips inside ComfyUI: DDIM Inversion beside flipped sigmas and other packs, at the same levels and cfg 1.

    python tests/measure/unsamplers.py --out trips --packs ComfyUI_Noise ComfyUI-Fluxtapoz

--packs are clones of github.com/BlenderNeko/ComfyUI_Noise and github.com/logtd/ComfyUI-Fluxtapoz; without them their
rows are left out. The model is the demo model, as it is and in a flow model's coordinates. Every way takes --steps
steps; and all but the implicit one also as many as take --rows network rows up and down, which is what that one takes.
Every picture and way is a cell that is kept: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from inside import command  # noqa: E402

COLUMNS = ("model", "way", "steps", "picture, dB", "worst, dB", "rows")
EXACT = "implicit"
NOTE = (
    "PSNR of the picture against the VAE's own round trip: mean with a 95 % bootstrap interval, and the worst. Rows of "
    "the network, a picture, up and down."
)


def parsed() -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--packs", type=Path, nargs="*", default=[], help="folders of other packs")
    parser.add_argument("--pictures", type=int, default=20)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--rows", type=int, default=280, help="of the longer runs, a picture")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def measure(arguments: argparse.Namespace) -> list[Any]:
    """The table, written and printed; its rows returned for a test."""
    import torch
    import trip_ways
    from host_figures import image_of, picture_of
    from host_ways import Loaded
    from msd_pack.msd_core.demo.model import DEMO_MODEL_PATH
    from msd_pack.msd_core.demo.scenes import caption
    from msd_pack.msd_core.research.studies.captions import with_interval
    from msd_pack.msd_core.research.studies.drawn_pictures import drawn, psnr
    from msd_pack.msd_core.research.studies.result import Result, Table, write
    from msd_pack.msd_core.research.studies.study import Cell, Context, model_digest
    from msd_pack.msd_core.research.studies.table import to_markdown
    from tqdm import tqdm

    packs = {name: node for folder in arguments.packs for name, node in trip_ways.nodes_of(folder.resolve()).items()}
    context = Context(arguments.out, False, arguments.seed, tqdm)
    with torch.inference_mode():
        models = {False: Loaded.of(), True: trip_ways.flow_of(Loaded.of())}
    levels = trip_ways.levels_of(models[False])
    scenes, pictures = drawn(arguments.pictures, arguments.seed)

    def cell(flow: bool, name: str, way: Any, steps: int, i: int) -> Cell:  # noqa: ANN401
        def compute(progress: object) -> Cell:
            loaded = models[flow]
            with torch.inference_mode():
                latent = trip_ways.encoded(loaded, image_of(pictures[i : i + 1]))
                before = loaded.rows
                back = way(trip_ways.Trip(loaded, latent, caption(scenes[i]), levels, packs, flow), steps)
                rows = loaded.rows - before
                made, again = (picture_of(trip_ways.decoded(loaded, one)) for one in (back, latent))
            return Cell({"PSNR": psnr(made, again), "rows": float(rows)})

        key = {"flow": flow, "way": name, "steps": steps, "picture": i, "model": model_digest(DEMO_MODEL_PATH)}
        return context.cell("unsamplers", key, compute)

    listed = [
        (flow, name, way, steps)
        for flow in (False, True)
        for name, way in trip_ways.ways(flow, packs).items()
        for steps in dict.fromkeys((arguments.steps, arguments.rows // trip_ways.ROWS_A_STEP.get(name, 2)))
        if EXACT not in name or steps == arguments.steps
    ]
    context.plan("unsamplers", len(listed) * arguments.pictures)
    rows = []
    for flow, name, way, steps in listed:
        cells = [cell(flow, name, way, steps, i) for i in range(arguments.pictures)]
        found = torch.tensor([one.numbers["PSNR"] for one in cells], dtype=torch.float64)
        spent = sum(one.numbers["rows"] for one in cells) / len(cells)
        rows.append(["flow" if flow else "eps", name, steps, with_interval(found, 1), float(found.min()), spent])
    context.close()
    title = f"There and back inside ComfyUI, {arguments.pictures} pictures, cfg 1"
    table = Table("unsamplers", title, COLUMNS, rows, NOTE, {"worst, dB": ".1f", "rows": ".0f"})
    told = {"pictures": arguments.pictures, "steps": arguments.steps, "rows": arguments.rows}
    write(Result("unsamplers", title, [table], settings=told), arguments.out, seed=arguments.seed)
    print(f"**{title}**\n\n{to_markdown(table)}\n\n{NOTE}")
    return rows


if __name__ == "__main__":
    sys.exit(command(Path(__file__).resolve(), parsed(), measure))
