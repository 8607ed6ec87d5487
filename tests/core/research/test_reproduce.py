"""`msd reproduce`: cells are computed once, files and page hold what the study said, and Ctrl-C loses nothing.

The studies here are tiny and injected; those of the package are not run.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from msd_core import GaussianMixture
from msd_core.cli.main import main
from msd_core.research.studies import STUDIES, Entry, load_study, run_study
from msd_core.research.studies.page import duration, make_page, read_reports, write_page
from msd_core.research.studies.result import Figure, Result, Table, write
from msd_core.research.studies.study import Cell, Context
from msd_core.research.studies.table import format_table, to_csv

pytest.importorskip("matplotlib")
pytest.importorskip("scipy")
from matplotlib.figure import Figure as MplFigure  # noqa: E402 - only after the check for the libraries

from msd_core.research.landscape import grid  # noqa: E402
from msd_core.research.studies import figures  # noqa: E402

pytestmark = pytest.mark.core
EXTENT = (-2.0, 4.0, -3.0, 3.0)


@dataclass(frozen=True)
class Blobs:
    """A density as the figures see it: a wide blob at (-1, 0) and a narrow one at (2, 1)."""

    extent: tuple[float, float, float, float] = EXTENT

    def of(self, cls: str | None) -> GaussianMixture:
        covariances = torch.eye(2).expand(2, 2, 2) * torch.tensor([0.3, 0.05]).reshape(2, 1, 1)
        return GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[-1.0, 0.0], [2.0, 1.0]]), covariances)


class Counted:
    """A computation that counts its calls and may be stopped at one of them."""

    def __init__(self, stop_at: int = -1) -> None:
        self.calls, self.stop_at = 0, stop_at

    def __call__(self, progress: Callable[[int, int], None]) -> Cell:
        self.calls += 1
        progress(1, 2)
        if self.calls == self.stop_at:
            raise KeyboardInterrupt
        progress(2, 2)
        return Cell({"value": 0.1 + 0.2, "call": self.calls}, {"x": torch.tensor([1 / 3, math.nan]).double()})


# Cells ---------------------------------------------------------------------------------------------------------------


def test_a_cell_is_computed_once_and_comes_back_equal(tmp_path: Path) -> None:
    numbers = {
        "third": 1 / 3,
        "tiny": 5e-324,
        "minus_zero": -0.0,
        "nan": math.nan,
        "infinities": [math.inf, -math.inf],
        "pair": (1, 2.5),
        "text": "σ",
        "nested": {"a": [None, True]},
    }
    tensors = {"half": torch.arange(4).half().reshape(2, 2).T, "long": torch.tensor([2**53 + 1]), "view": torch.ones(3)}
    tensors["same"] = tensors["view"]
    first = Context(tmp_path).cell("mine", {"n": 1}, lambda progress: Cell(numbers, tensors))
    second = Context(tmp_path).cell("mine", {"n": 1}, lambda progress: pytest.fail("computed again"))
    assert repr(first.numbers) == repr(second.numbers) and first.seconds == second.seconds > 0
    assert second.numbers["third"].hex() == (1 / 3).hex() and second.numbers["tiny"] == 5e-324
    assert math.copysign(1, second.numbers["minus_zero"]) == -1 and math.isnan(second.numbers["nan"])
    assert second.numbers["infinities"] == [math.inf, -math.inf] and second.numbers["nested"] == {"a": [None, True]}
    assert list(second.tensors) and all(torch.equal(second.tensors[k], v) for k, v in tensors.items())
    assert second.tensors["half"].dtype == torch.half


def test_a_cell_without_tensors(tmp_path: Path) -> None:
    for _ in range(2):
        assert Context(tmp_path).cell("mine", {}, lambda progress: Cell({"a": 1})).numbers == {"a": 1}


def test_any_change_of_key_seed_quick_or_study_is_another_cell(tmp_path: Path) -> None:
    compute, key = Counted(), {"density": "ring", "steps": 3, "levels": [0.1, 1.0]}
    variants = [
        (Context(tmp_path), "mine", key),
        (Context(tmp_path, seed=1), "mine", key),
        (Context(tmp_path, quick=True), "mine", key),
        (Context(tmp_path), "yours", key),
        (Context(tmp_path), "mine", key | {"steps": 4}),
        (Context(tmp_path), "mine", key | {"levels": [0.1, 1.0 + 2**-52]}),
        (Context(tmp_path), "mine", key | {"version": 2}),
    ]
    for _ in range(2):
        calls = [context.cell(study, k, compute).numbers["call"] for context, study, k in variants]
        assert calls == list(range(1, len(variants) + 1))
    shuffled = dict(reversed(key.items()))
    assert Context(tmp_path).cell("mine", shuffled, compute).numbers["call"] == 1  # the order of the key is no setting


def test_the_version_of_the_cells_is_part_of_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compute = Counted()
    Context(tmp_path).cell("mine", {}, compute)
    monkeypatch.setattr("msd_core.research.studies.study.CELL_VERSION", "next")
    assert Context(tmp_path).cell("mine", {}, compute).numbers["call"] == 2


@pytest.mark.parametrize("content", [b"", b"torn", None])
def test_a_damaged_cell_is_computed_again(tmp_path: Path, content: bytes | None) -> None:
    compute = Counted()
    Context(tmp_path).cell("mine", {}, compute)
    (file,) = (tmp_path / "cells").glob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-9] if content is None else content)
    assert Context(tmp_path).cell("mine", {}, compute).numbers["call"] == 2
    assert Context(tmp_path).cell("mine", {}, compute).numbers["call"] == 2  # and kept again


def test_a_cell_in_the_place_of_another_is_not_taken_for_it(tmp_path: Path) -> None:
    compute, context = Counted(), Context(tmp_path)
    context.cell("mine", {"n": 1}, compute)
    (first,) = (tmp_path / "cells").glob("*.safetensors")
    context.cell("mine", {"n": 2}, compute)
    (second,) = set((tmp_path / "cells").glob("*.safetensors")) - {first}
    second.write_bytes(first.read_bytes())
    assert context.cell("mine", {"n": 2}, compute).numbers["call"] == 3


def test_ctrl_c_in_the_middle_keeps_what_is_done(tmp_path: Path) -> None:
    def study(context: Context, compute: Counted) -> list[int]:
        return [context.cell("mine", {"n": n}, compute).numbers["call"] for n in range(3)]

    stopped = Counted(stop_at=2)
    with pytest.raises(KeyboardInterrupt):
        study(Context(tmp_path), stopped)
    resumed = Counted()
    assert study(Context(tmp_path), resumed) == [1, 1, 2] and resumed.calls == 2
    assert not list((tmp_path / "cells").glob("*.partial*"))


def test_seconds_are_those_of_the_cells_however_old(tmp_path: Path) -> None:
    first, second = Context(tmp_path), Context(tmp_path)
    for context in (first, second):
        for n in range(3):
            context.cell("mine", {"n": n}, Counted())
    assert first.seconds == second.seconds > 0
    once = first.seconds
    first.cell("mine", {"n": 0}, Counted())
    assert first.seconds == once, "a cell that is asked for again costs nothing"


@pytest.mark.parametrize(
    ("study", "key", "cell", "words"),
    [
        ("mine", {"x": torch.ones(2)}, Cell(), "key: got .* which is not JSON"),
        ("mine", {"x": math.nan}, Cell(), "key: got .* finite"),
        ("mine", {}, Cell({"x": torch.ones(())}), r"numbers: got .* which is not JSON .*float\(x\)"),
        ("mine", {}, Cell({}, {"x": np.ones(2)}), "tensors: got ndarray as 'x'"),  # type: ignore[dict-item]
        ("mine", {}, {"x": 1.0}, "compute: got dict back"),
        ("../mine", {}, Cell(), "study: got '../mine'"),
    ],
)
def test_what_cannot_be_kept_is_refused(tmp_path: Path, study: str, key: dict, cell: Cell, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Context(tmp_path).cell(study, key, lambda progress: cell)
    assert not list(tmp_path.rglob("*.safetensors"))


def test_cells_do_not_nest_and_a_failure_leaves_the_context_usable(tmp_path: Path) -> None:
    context = Context(tmp_path)
    with pytest.raises(ValueError, match="side by side"):
        context.cell("mine", {"n": 1}, lambda progress: context.cell("mine", {"n": 2}, Counted()))
    assert context.cell("mine", {"n": 1}, Counted()).numbers["call"] == 1


def test_generators_depend_on_seed_and_names(tmp_path: Path) -> None:
    def draw(seed: int, *names: str | int) -> list[float]:
        return torch.randn(4, generator=Context(tmp_path, seed=seed).rng(*names)).tolist()

    assert draw(0, "a", 1) == draw(0, "a", 1)
    assert len({tuple(draws) for draws in (draw(0, "a", 1), draw(1, "a", 1), draw(0, "a", 2), draw(0, "a1"))}) == 4


class Bar:
    """A bar that remembers what it was told."""

    def __init__(self, log: list, desc: str, total: int | None, **_: object) -> None:
        self.log, self.desc, self.total, self.n = log, desc, total, 0

    def update(self, n: int = 1) -> None:
        self.n += n
        self.log.append((self.desc, self.n, self.total))

    def reset(self, total: int) -> None:
        self.n, self.total = 0, total

    def close(self) -> None:
        self.log.append((self.desc, "closed"))


def test_progress_is_a_bar_of_steps_inside_a_bar_of_cells(tmp_path: Path) -> None:
    log: list = []
    context = Context(tmp_path, bar=lambda **options: Bar(log, **options))
    context.plan("mine", 2)
    for n in range(2):
        context.cell("mine", {"density": "ring", "n": n}, Counted())
    context.cell("mine", {"density": "ring", "n": 0}, Counted())  # kept: no bar of steps
    context.close()
    steps = [("mine ring", 1, 2), ("mine ring", 2, 2), ("mine ring", "closed")]
    assert log == [*steps, ("mine", 1, 2), *steps, ("mine", 2, 2), ("mine", 3, 2), ("mine", "closed")]


# Tables --------------------------------------------------------------------------------------------------------------


def table(**changes: object) -> Table:
    rows = [["fractal", -1.365432, 1016, "7.65"], ["two | spirals", 12.0, None, "n. a."], ["ring", math.nan, 3, ""]]
    plain = Table("numbers", "Numbers", ["density", "NLL", "modes", "paper"], rows, "A note.", {"NLL": ".3f"})
    return replace(plain, **changes)


def check_aligned(text: str) -> None:
    """The numbers of the column NLL end below its name's end, and the words of the first column start at its start."""
    lines = text.splitlines()[1:-1]
    header = next(line for line in lines if "NLL" in line)
    end = header.index("NLL") + 3
    for line in (line for line in lines if line != header):
        assert re.search(r"(\S)$", line[:end]) and line[end : end + 2] == "  ", line
        assert not line.startswith(" "), line


def test_columns_are_aligned() -> None:
    text = format_table(table())
    check_aligned(text)
    assert text.splitlines()[0] == "Numbers" and text.splitlines()[-1] == "A note."
    assert re.search(r"fractal +-1\.365 +1016  7\.65$", text, re.M) and re.search(
        r"spirals +12\.000 +–  n\. a\.$", text, re.M
    )
    assert not re.search(r" $", text, re.M)


def test_columns_out_of_line_are_found() -> None:
    with pytest.raises(AssertionError):
        check_aligned(format_table(table()).replace("ring ", "ring  "))


def test_csv_holds_the_numbers_unrounded() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(table()))))
    assert [row["density"] for row in rows] == ["fractal", "two | spirals", "ring"]
    assert [float(row["NLL"]) for row in rows[:2]] == [-1.365432, 12.0] and rows[2]["NLL"] == "nan"
    assert [row["modes"] for row in rows] == ["1016", "", "3"]
    tenth = to_csv(Table("t", "t", ["x"], [[np.float64(0.1)]]))
    assert tenth == "x\n0.1\n"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": [[1, 2, 3]]}, "rows: got 3 values"),
        ({"rows": [["a", torch.ones(()), 1, ""]]}, "rows: got .* a Tensor"),
        ({"formats": {"nll": ".3f"}}, "formats: got column 'nll'"),
    ],
)
def test_wrong_tables(changes: dict, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        table(**changes)


# Results and page ----------------------------------------------------------------------------------------------------


def draw(seed: int = 0) -> MplFigure:
    """Four panels of all kinds."""
    figure, axes = figures.panels(1, 4)
    density, noise = Blobs(), torch.randn(500, 2, generator=torch.Generator().manual_seed(seed))
    figures.panel_points(axes[0, 0], density, noise, modes=density.of(None).means, title="points")
    potential = figures.log_density(density.of(None), EXTENT, 50)
    figures.panel_landscape(axes[0, 1], potential, EXTENT, points=noise, bar="log p")
    series = {"sds": ([1, 2, 3], [3, 2, 1], [0.1, 0.2, 0.3]), "other": ([1, 2], [2, 4], [1, 3], [3, 5])}
    figures.curves(axes[0, 2], series, yscale="log", levels={"truth": 2.0})
    figures.pareto(axes[0, 3], {"split": ([8, 4], [1, 2]), "exact": ([4, 8], [1.5, 0.1])}, ylabel="bias²")
    return figure


def result(name: str = "mine", **changes: object) -> Result:
    plain = Result(
        name,
        f"Study {name}",
        [table()],
        [Figure("points", "Points [a]", "What is seen.", figures.panels(1, 1, width=1)[0])],
        ["A paragraph with *Markdown*."],
        {"steps": 150, "lr": 1e-2, "limit": math.inf},
        3723.0,
    )
    return replace(plain, **changes)


def test_the_json_says_how_the_numbers_were_made(tmp_path: Path) -> None:
    files = write(result(), tmp_path, seed=7, quick=True)
    assert [file.name for file in files] == ["mine-numbers.csv", "mine-points.png", "mine.json"]
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(file.name for file in files)

    def refuse(text: str) -> float:
        raise AssertionError(f"{text} is not JSON")

    report = json.loads((tmp_path / "mine.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert (report["name"], report["title"], report["seed"], report["quick"]) == ("mine", "Study mine", 7, True)
    assert report["seconds"] == 3723.0 and report["settings"] == {"steps": 150, "lr": 0.01, "limit": "inf"}
    assert report["environment"]["versions"]["torch"] and report["environment"]["cores"] == torch.get_num_threads()
    assert set(report["environment"]["versions"]) == {"python", "torch", "numpy", "scipy", "mean-shift-distillation"}
    assert report["tables"][0]["rows"][0] == ["fractal", -1.365432, 1016, "7.65"]
    assert report["tables"][0]["rows"][2][1] == "nan"
    assert report["figures"][0]["file"] == "mine-points.png" and report["figures"][0]["caption"] == "What is seen."


def test_results_that_cannot_be_written_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="tables: got names .* Rename one"):
        write(result(tables=[table(), table(name="mine-numbers")]), tmp_path)
    with pytest.raises(ValueError, match="settings: got a value that is not JSON"):
        write(result(settings={"x": torch.ones(2)}), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_page_is_made_from_the_json_alone(tmp_path: Path) -> None:
    write(result("table1"), tmp_path)
    write(result("zeta"), tmp_path)
    write(result("table2", seconds=12.3), tmp_path, seed=3, quick=True)
    (tmp_path / "foreign.json").write_text("[1]", encoding="utf-8")
    for file in (*tmp_path.glob("*.csv"), *tmp_path.glob("*.png")):
        file.unlink()
    code = (
        "import sys; from pathlib import Path; from msd_core.research.studies.page import write_page\n"
        "write_page(Path(sys.argv[1]))\n"
        "studies = {m for m in sys.modules if m.startswith('msd_core.research.studies.')}\n"
        "assert studies == {'msd_core.research.studies.' + m for m in ('page', 'result', 'table')}, studies\n"
        "assert not {'matplotlib', 'scipy'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)  # noqa: S603
    page = (tmp_path / "README.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.*)$", page, re.M)
    assert sections == ["Study table2 (quick)", "Study table1", "Study zeta"]  # the order of the registry
    assert "- [Study table2 (quick)](#study-table2-quick)" in page
    assert (
        "`msd reproduce table2 --quick --seed 3`: 12 s of computing." in page and page.count("**Quick settings**") == 1
    )
    assert "`msd reproduce table1 --seed 0`: 1 h 2 min of computing." in page
    assert "| density | NLL | modes | paper |\n| --- | ---: | ---: | --- |\n| fractal | -1.365 | 1016 | 7.65 |" in page
    assert "| two \\| spirals | 12.000 | – | n. a. |" in page and "| ring | nan | 3 |" in page
    assert "![Points (a)](zeta-points.png)" in page and "What is seen." in page and "*Markdown*" in page
    assert page.count(f"torch {read_reports(tmp_path)[0]['environment']['versions']['torch']}") == 1


def test_the_page_says_where_the_numbers_of_a_section_come_from_if_not_all_from_one_machine(tmp_path: Path) -> None:
    for name in ("table1", "table2"):
        write(result(name), tmp_path)
    reports = read_reports(tmp_path)
    reports[1]["environment"] = {"versions": {"torch": "9.9"}, "cores": 64, "cpu": None}
    page = make_page(reports)
    assert "of computing; torch 9.9, on 64 cores." in page and page.count("of computing; python") == 1


def test_the_page_follows_the_json(tmp_path: Path) -> None:
    write(result(), tmp_path)
    before = write_page(tmp_path).read_text(encoding="utf-8")
    path = tmp_path / "mine.json"
    path.write_text(path.read_text(encoding="utf-8").replace("-1.365432", "-2.5"), encoding="utf-8")
    after = write_page(tmp_path).read_text(encoding="utf-8")
    assert after == before.replace("-1.365", "-2.500") != before
    path.write_text(path.read_text(encoding="utf-8")[:-20], encoding="utf-8")
    with pytest.raises(ValueError, match=r"mine\.json' is not a whole JSON file .* run its study again"):
        write_page(tmp_path)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "under 1 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (3599.9, "1 h 0 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


# Figures -------------------------------------------------------------------------------------------------------------


def test_equal_data_give_equal_bytes_without_metadata(tmp_path: Path) -> None:
    first = figures.png_bytes(draw())
    assert first == figures.png_bytes(draw())
    assert first != figures.png_bytes(draw(seed=1))
    picture = Image.open(io.BytesIO(first))
    assert picture.width == 1600 and len(first) < figures.MAX_BYTES and not picture.info
    figures.save(draw(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == first and len(list(tmp_path.iterdir())) == 1


def test_a_heavy_figure_is_reduced(monkeypatch: pytest.MonkeyPatch) -> None:
    full = figures.png_bytes(draw())
    monkeypatch.setattr(figures, "MAX_BYTES", len(full) - 1)
    reduced = figures.png_bytes(draw())
    assert len(reduced) < len(full) and Image.open(io.BytesIO(reduced)).size == Image.open(io.BytesIO(full)).size


def inked(figure: MplFigure, colour: tuple[int, int, int]) -> tuple[float, float]:
    """Where pixels of about ``colour`` are, as fractions of the extent from its lower left corner."""
    pixels = np.asarray(Image.open(io.BytesIO(figures.png_bytes(figure))).convert("RGB"), dtype=int)
    box = figure.axes[0].get_window_extent()
    rows, columns = np.nonzero(np.abs(pixels - colour).sum(2) < 60)
    assert len(rows) > 10
    x, y = columns.mean(), len(pixels) - rows.mean()
    return (x - box.x0) / box.width, (y - box.y0) / box.height


@pytest.mark.parametrize("flipped", [False, True])
def test_panels_agree_on_where_a_point_is(flipped: bool) -> None:
    """The narrow blob's peak at (2, 1) is at (2/3, 2/3) of the extent, as points and as a landscape."""
    figure, axes = figures.panels(1, 1, width=3)
    figures.panel_points(axes[0, 0], Blobs(), torch.tensor([[2.0, 1.0]]), size=6, alpha=1, colour="#ff0000")
    potential = figures.log_density(Blobs().of(None), EXTENT, 91)
    landscape, others = figures.panels(1, 1, width=3)
    shown = potential[::-1] if flipped else potential
    figures.panel_landscape(others[0, 0], shown, EXTENT, limits=(potential.max() - 0.3, potential.max()))
    brightest = inked(landscape, (254, 232, 56))  # the top of the colour map
    same = np.allclose(inked(figure, (255, 0, 0)), (2 / 3, 2 / 3), atol=0.01) and np.allclose(
        brightest, (2 / 3, 2 / 3), atol=0.02
    )
    assert same is not flipped


def replace_means(mixture: GaussianMixture, shift: float) -> GaussianMixture:
    return GaussianMixture(mixture.weights, mixture.means - shift, mixture.covariances)


def test_the_background_is_the_log_density() -> None:
    values = figures.log_density(Blobs().of(None), EXTENT, 61)
    row, column = np.unravel_index(values.argmax(), values.shape)
    assert (row, column) == (40, 40)  # (2, 1)
    sharp = Blobs().of(None).log_prob(grid(EXTENT, (61, 61)).flatten(0, 1)).reshape(61, 61).numpy()
    assert np.abs(values - sharp)[sharp > sharp.max() - 3].max() < 0.1
    moved = replace_means(Blobs().of(None), 1.0)
    assert figures.log_density(moved, EXTENT, 61).argmax() != values.argmax()  # not taken for the one remembered
    values[:] = 0
    assert figures.log_density(Blobs().of(None), EXTENT, 61).any()  # nor spoiled by its receiver


def test_the_front_holds_the_points_that_nothing_beats() -> None:
    points = np.array([[4, 1.0], [1, 3], [2, 3], [2, 2], [4, 1], [8, 1.5], [3, math.nan], [0, math.inf]])
    front = figures.pareto_front(points)
    assert front == [1, 3, 0]
    for i in set(range(6)) - set(front):
        assert any((points[j] <= points[i]).all() for j in front)


def test_every_method_has_a_colour_a_label_and_no_double() -> None:
    assert set(figures.METHOD_COLOURS) == set(figures.METHOD_LABELS)
    assert len(set(figures.METHOD_COLOURS.values())) == len(figures.METHOD_COLOURS)


# The command ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def inject(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Counted]:
    """Make a study of three cells the only one, or one more; returns its computation."""

    def add(name: str = "mine", *, in_all: bool = True, stop_at: int = -1, alone: bool = True) -> Counted:
        compute = Counted(stop_at)

        def run(context: Context) -> Result:
            context.plan(name, 3)
            cells = [context.cell(name, {"n": n}, compute) for n in range(3)]
            rows = [[n, cell.numbers["call"]] for n, cell in enumerate(cells)]
            return Result(name, f"Study {name}", [Table(name, f"Calls of {name}", ["n", "call"], rows)])

        if alone:
            for other in reversed(list(STUDIES)):  # put back the last one first, in the order of before
                monkeypatch.delitem(STUDIES, other)
        module = types.ModuleType(f"injected_{name}")
        module.__dict__.update(run=run, IN_ALL=in_all)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(STUDIES, name, Entry(module.__name__, f"what {name} shows"))
        return compute

    return add


def test_the_command_prints_writes_and_goes_on(
    inject: Callable[..., Counted], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    stopped = inject(stop_at=2)
    command = ["reproduce", "mine", "--seed", "5", "--out", str(tmp_path / "results")]
    assert main(command) == 130 and stopped.calls == 2
    assert "msd: stopped; finished parts are kept, the same command goes on" in capsys.readouterr().err.splitlines()
    resumed = inject()
    assert main(command) == 0 and resumed.calls == 2
    out, err = capsys.readouterr()
    assert "Calls of mine\nn  call\n-  ----\n0     1\n1     1\n2     2\n" in out and "mine: 100%" in err
    report = json.loads((tmp_path / "results" / "mine.json").read_text(encoding="utf-8"))
    assert report["seed"] == 5 and not report["quick"] and report["seconds"] > 0
    before = {f.name: f.read_bytes() for f in (tmp_path / "results").glob("[!.]*") if f.is_file()}
    assert set(before) == {"mine.csv", "mine.json", "README.md"}
    assert before["README.md"].startswith(b"# Results of the studies\n")
    again = inject()
    assert main(command) == 0 and again.calls == 0
    assert {f.name: f.read_bytes() for f in (tmp_path / "results").glob("[!.]*") if f.is_file()} == before


def test_nothing_foreign_is_written_over(
    inject: Callable[..., Counted], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    """Not a table or a figure either; what the command has written, it may write again, after other studies too."""
    compute, command = inject(), ["reproduce", "mine", "--out", str(tmp_path)]
    inject("other", alone=False)
    for name in ("mine.csv", "mine-more.png", "mine.json", "README.md"):
        (tmp_path / name).write_text("own")
        line = refused(command, capsys)
        assert f"{tmp_path / name}' is there already" in line and "--force" in line and compute.calls == 0
        (tmp_path / name).unlink()
    for name in ("notes.csv", "miner.csv", "other.csv"):
        (tmp_path / name).write_text("own")
    assert main(command) == 0 and main(command) == 0 and compute.calls == 3
    assert "other.csv' is there already" in refused(["reproduce", "other", "--out", str(tmp_path)], capsys)
    assert main(["reproduce", "other", "--out", str(tmp_path), "--force"]) == 0 and main(command) == 0
    assert (tmp_path / "notes.csv").read_text() == (tmp_path / "miner.csv").read_text() == "own"
    (tmp_path / "mine.csv").write_text("changed")
    assert "mine.csv' is there already" in refused(command, capsys)


def test_all_runs_what_belongs_to_it(
    inject: Callable[..., Counted], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, left = inject("first"), inject("second", alone=False), inject("left", in_all=False, alone=False)
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", "all", "--quick"]) == 0
    assert (first.calls, second.calls, left.calls) == (3, 3, 0)
    folder = tmp_path / "results-quick"
    assert {f.name for f in folder.glob("*.json")} == {"first.json", "second.json"}
    assert json.loads((folder / "first.json").read_text(encoding="utf-8"))["quick"] is True


def test_a_study_that_is_told_its_seconds(inject: Callable[..., Counted], tmp_path: Path) -> None:
    inject()
    first, second = (run_study("mine", Context(tmp_path)).seconds for _ in range(2))
    assert first == second > 0


def refused(arguments: list[str], capsys: pytest.CaptureFixture) -> str:
    """The one line of a command that must be refused."""
    capsys.readouterr()
    assert main(arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line and "%|" not in line]
    assert line.startswith("msd: error: ")
    return line


def test_bad_commands_are_told_in_one_line(
    inject: Callable[..., Counted], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = inject()
    line = refused(["reproduce", "table9", "--out", str(tmp_path / "new")], capsys)
    assert "NAME: got 'table9'" in line and "'mine', 'all'" in line and not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("in the way")
    line = refused(["reproduce", "mine", "--out", str(tmp_path / "file" / "x")], capsys)
    assert "--out: got" in line and "nothing can be written" in line and compute.calls == 0
    monkeypatch.setitem(STUDIES, "bare", Entry("injected_bare", ""))
    monkeypatch.setattr("msd_core.research.studies.load_study", lambda name: exec("import scipy.absent"))  # noqa: S102
    line = refused(["reproduce", "bare", "--out", str(tmp_path / "new")], capsys)
    assert "scipy" in line and "pip install '.[science]'" in line and not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="study: got 'table9'"):
        load_study("table9")


def test_help_lists_the_studies_and_imports_none() -> None:
    code = (
        "import sys; from msd_core.cli.main import make_parser\n"
        "try: make_parser().parse_args(['reproduce', '--help'])\n"
        "except SystemExit: pass\n"
        "studies = {m for m in sys.modules if m.startswith('msd_core.research.studies.')}\n"
        "assert not studies | {'matplotlib', 'scipy'} & set(sys.modules), studies\n"
    )
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout  # noqa: S603
    assert "dimensions" not in shown.partition("\nstudies\n")[0]
    listed = re.findall(r"^  ([a-z0-9]+)  +\S", shown.partition("\nstudies\n")[2], re.M)
    assert (
        listed
        == list(STUDIES)
        == [
            "table2",
            "table1",
            "fig1",
            "fig3",
            "bandwidth",
            "cost",
            "ideal",
            "table3",
            "fig6",
            "fig8",
            "learned",
            "loops",
            "inversion",
            "graphics",
            "volume",
            "existing",
            "edits",
            "symptoms",
            "posterior",
            "dream",
        ]
    )
