"""README's commands are the ones that are tested."""

from __future__ import annotations

import functools
import re
import shlex
from pathlib import Path

import pytest
import torch

import msd_core
from msd_core.cli.main import main, make_parser

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def commands() -> list[str]:
    """Lines of README's shell blocks, continued lines joined."""
    blocks = re.findall(r"```(?:sh|bash)\n(.*?)```", README, re.S)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def test_ci_runs_the_test_command_of_the_readme() -> None:
    (test,) = (line for line in commands() if "bin/pytest" in line)
    assert test in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("line", [line for line in commands() if re.search(r"\bmsd [a-z]", line)])
def test_every_msd_command_of_the_readme_is_understood(line: str) -> None:
    command = line[re.search(r"\bmsd [a-z]", line).start() :]
    make_parser().parse_args(shlex.split(command, comments=True)[1:])


def test_the_files_that_the_readme_links_to_exist() -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", README) + re.findall(r'src="(?!https?:)([^"]+)"', README)
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing


def run_example(number: int) -> dict:
    """The names that README's Python example ``number`` leaves behind."""
    names: dict = {}
    exec(compile(re.findall(r"```python\n(.*?)```", README, re.S)[number], "README.md", "exec"), names)  # noqa: S102
    return names


def test_the_picture_example_of_the_readme_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    quick = functools.partial(msd_core.distil, steps=2, solver_steps=2)
    monkeypatch.setattr(msd_core, "distil", quick)
    names = run_example(0)
    assert names["state"].step == 2 and names["picture"].shape == (1, 3, 768, 1024)


def test_the_pictures_that_exist_are_changed_from_top_to_bottom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """In few steps: every file is there when it is asked for, of a size that fits."""
    monkeypatch.chdir(tmp_path)
    (block,) = (part for part in re.findall(r"```sh\n(.*?)```", README, re.S) if "msd edit" in part)
    first, drawing, rest = re.split(r"^python - <<'END'\n|^END\n", block, flags=re.M)
    for line in first.splitlines():
        assert main([*shlex.split(line)[1:], "--steps", "1"]) == 0
    exec(compile(drawing, "README.md", "exec"), {})  # noqa: S102
    for line in rest.splitlines():
        assert main([*shlex.split(line)[1:], "--steps", "1"]) == 0, line
    assert "warning" not in capsys.readouterr().err and len(rest.splitlines()) == 9
    for name in ("edit", "inpaint", "restore"):
        monkeypatch.setattr(msd_core, name, functools.partial(getattr(msd_core, name), steps=3))
    names = run_page("editing.md", "steps=16", "steps=4")
    picture, mask = names["picture"], names["mask"]
    for changed in (names["edited"], names["filled"], names["nearest"]):
        assert torch.equal(changed[..., mask == 0], picture[..., mask == 0])
    assert names["large"].shape == picture.shape and names["kept"] > 20
    run_page("editing.md", "cfg=3.0", "cfg=3.0, steps=8", names, block=1)
    assert float((names["filled"] - names["picture"])[..., :48, :48].abs().mean()) > 0.01


def test_the_example_of_the_page_on_inversion_runs(capsys: pytest.CaptureFixture) -> None:
    names = run_page("inversion.md", '"normal", 50', '"normal", 12')
    assert "None" in capsys.readouterr().out, "nothing to warn of"
    assert float(names["round_trip_psnr"](names["x"], names["back"])) > 80
    assert float((names["edited"] - names["back"]).abs().max()) > 0.1


def run_page(page: str, given: str, quick: str, names: dict | None = None, block: int = 0) -> dict:
    """The names that a Python example of a page leaves behind, with fewer steps than are ``given``."""
    names = {} if names is None else names
    example = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(encoding="utf-8"), re.S)[block]
    assert given in example
    exec(compile(example.replace(given, quick), page, "exec"), names)  # noqa: S102
    return names
