"""Holes and restoration inside ComfyUI: this pack's nodes beside the host's own, at equal network rows.

    python tests/measure/beside.py --out beside                        # 100 pictures
    python tests/measure/beside.py --out first --pictures 6 --seed 1   # a first look
    python tests/measure/beside.py --out guided --pictures 4 --only box --cfg 3 --precision bfloat16

Every picture and way is a cell that is kept: the same command goes on where it was stopped. It writes beside.md, CSV
and JSON, and a sheet of the first pictures. The host's own functions run in its own Python, on its CPU, with the demo
model; ComfyUI is found as the tests find it ($COMFYUI_PATH, ~/comfy/ComfyUI).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from inside import command  # noqa: E402

SHOWN = 6
"""Pictures on the sheet."""
PRECISIONS = {"float32": ["fp32_unet"], "float16": ["fp16_unet"], "bfloat16": ["bf16_unet", "bf16_vae"]}
"""Name to the host's own options; its autoencoder has no float16 on a CPU."""
HOLE_COLUMNS = (
    "task", "way", "accepted", "PSNR", "kept", "kept, pasted", "seam", "seam, pasted", "accepted, as made", "rows"
)  # fmt: skip
RESTORED_COLUMNS = ("task", "way", "accepted", "PSNR", "kept", "rows")
DIGITS = {"accepted": 2, "accepted, as made": 2, "PSNR": 1, "kept": 1, "seam": 1, "seam, pasted": 1}


def parsed() -> argparse.Namespace:
    """The command's arguments."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="tasks whose name contains this")
    parser.add_argument("--ways", default="", help="ways whose name contains this")
    parser.add_argument("--cfg", type=float, default=1.0, help="guidance; above 1 every way takes twice the rows")
    parser.add_argument("--precision", choices=PRECISIONS, default="float32", help="of the networks")
    return parser.parse_args()


class Measuring:
    """The cells of one command."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        import comfy.cli_args

        for option in PRECISIONS[arguments.precision]:
            setattr(comfy.cli_args.args, option, True)
        import host_figures
        import host_ways
        from msd_pack.msd_core.demo.model import DEMO_MODEL_PATH
        from msd_pack.msd_core.research.studies.drawn_pictures import drawn
        from msd_pack.msd_core.research.studies.study import Context, model_digest
        from tqdm import tqdm

        self.arguments, self.figures = arguments, host_figures
        self.context = Context(arguments.out, False, arguments.seed, tqdm)
        self.loaded = host_ways.Loaded.of(arguments.cfg)
        self.scenes, self.drawings = drawn(arguments.pictures, arguments.seed)
        self.shared = {"cfg": arguments.cfg, "precision": arguments.precision, "rows": host_ways.ROWS}
        self.shared |= {"model": model_digest(DEMO_MODEL_PATH), "version": 1}

    def listed(self, tasks: Sequence[str], ways: Sequence[str]) -> list[tuple[str, str]]:
        """The tasks and ways that were asked for."""
        only, named = self.arguments.only, self.arguments.ways
        return [(task, way) for task in tasks if only in task for way in ways if named in way]

    def cells(self, task: str, way: str) -> list[Any]:
        """A cell a picture."""
        return [self._cell(task, way, i) for i in range(self.arguments.pictures)]

    def _cell(self, task: str, way: str, i: int) -> Any:  # noqa: ANN401
        import torch
        from msd_pack.msd_core.research.studies.captions import eight_bits
        from msd_pack.msd_core.research.studies.study import Cell

        def compute(progress: object) -> Cell:
            measure = self.figures.filled if task in self.figures.KINDS else self.figures.brought_back
            with torch.inference_mode():
                found, made = measure(self.loaded, self.scenes[i], self.drawings[i : i + 1], task, way, i)
            return Cell(found, {"picture": eight_bits(made[0].clone())} if i < SHOWN else {})

        key = {"task": task, "way": way, "picture": i, "shown": i < SHOWN, **self.shared}
        return self.context.cell("beside", key, compute)


def plain(columns: Sequence[str]) -> dict[str, str]:
    """Formats of the columns without an interval."""
    return {name: form for name, form in {"kept, pasted": ".1f", "rows": ".0f"}.items() if name in columns}


def row_of(task: str, way: str, cells: Sequence[Any], columns: Sequence[str]) -> list[Any]:
    """Means with their intervals."""
    import torch
    from msd_pack.msd_core.research.studies.captions import with_interval

    row: list[Any] = [task, way]
    for name in columns[2:]:
        values = [cell.numbers.get(name) for cell in cells]
        if None in values:
            row.append(None)
        else:
            every = torch.tensor(values, dtype=torch.float64)
            row.append(with_interval(every, DIGITS[name]) if name in DIGITS else float(every.mean()))
    return row


def sheet(measuring: Measuring, found: dict[tuple[str, str], list[Any]]) -> Image.Image:
    """A row a task and picture, green where the judge accepts."""
    from msd_pack.msd_core.demo.scenes import caption
    from msd_pack.msd_core.research.studies.captions import eight_bits
    from msd_pack.msd_core.sheet import Entry, contact_sheet

    rows = []
    for task in dict.fromkeys(task for task, _ in found):
        for i in range(min(SHOWN, measuring.arguments.pictures)):
            entries = [Entry(_image(eight_bits(measuring.drawings[i])), ["true"])]
            for (one, way), cells in found.items():
                if one == task:
                    numbers = cells[i].numbers
                    told = [way, f"{numbers['PSNR']:.1f} dB"]
                    entries.append(Entry(_image(cells[i].tensors["picture"]), told, bool(numbers["accepted"])))
            rows.append((f"{task}: {caption(measuring.scenes[i])}", entries))
    columns = max(len(entries) for _, entries in rows)
    return contact_sheet([""] * columns, rows)


def _image(picture: torch.Tensor) -> Image.Image:
    from PIL import Image

    return Image.fromarray(picture.movedim(0, -1).contiguous().numpy())


NOTE = (
    "PSNR: in the hole after the paste, or of the whole restored picture. Kept: outside of the hole before the paste, "
    "and after it (99: to the bit); or agreement with what was given. Seam: mean error of the jump across the hole's "
    "edge, in levels of 255. Rows: of the network, a picture. Means with 95 % bootstrap intervals over the pictures."
)


def measure(arguments: argparse.Namespace) -> list[Any]:
    """All tables, written and printed; returned for a test."""
    measuring = Measuring(arguments)
    from msd_pack.msd_core.research.studies.result import Result, Table, write
    from msd_pack.msd_core.research.studies.table import to_markdown

    figures, ways = measuring.figures, sys.modules["host_ways"]
    parts = {
        "holes": (measuring.listed(figures.KINDS, list(ways.HOLES)), HOLE_COLUMNS),
        "restored": (measuring.listed(list(figures.TASKS), list(ways.RESTORED)), RESTORED_COLUMNS),
    }
    measuring.context.plan("beside", arguments.pictures * sum(len(listed) for listed, _ in parts.values()))
    found = {pair: measuring.cells(*pair) for listed, _ in parts.values() for pair in listed}
    measuring.context.close()
    if not found:
        raise SystemExit(f"--only {arguments.only!r}, --ways {arguments.ways!r}: no task and way of these names")
    title = f"{arguments.pictures} pictures, cfg {arguments.cfg:g}, {arguments.precision}"
    tables = [
        Table(name, title, columns, [row_of(*pair, found[pair], columns) for pair in listed], NOTE, plain(columns))
        for name, (listed, columns) in parts.items()
        if listed
    ]
    settings = {**measuring.shared, "pictures": arguments.pictures}
    write(Result("beside", "Beside the host's own ways", tables, settings=settings), arguments.out, seed=arguments.seed)
    sheet(measuring, found).save(arguments.out / "beside-sheet.png")
    text = "\n\n".join(f"**{table.title}**\n\n{to_markdown(table)}\n\n{table.note}" for table in tables)
    (arguments.out / "beside.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return tables


if __name__ == "__main__":
    sys.exit(command(Path(__file__).resolve(), parsed(), measure))
