"""One writer for every file that must be whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from PIL import Image

import msd_core
from msd_core.atomic import replacing, write_whole

pytestmark = pytest.mark.core


def test_what_is_there_is_replaced_and_nothing_is_left_beside_it(tmp_path: Path) -> None:
    for content in (b"first", memoryview(b"second")):
        write_whole(tmp_path / "a.bin", content)
        assert (tmp_path / "a.bin").read_bytes() == bytes(content)
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", ["os.replace", "pathlib.Path.write_bytes"])
def test_a_failure_leaves_the_old_file_alone(
    step: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_whole(tmp_path / "a.bin", b"old")

    def fail(path: Path, *rest: object) -> None:
        Path(path).touch()
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(step, fail)
        with pytest.raises(type(error)):
            write_whole(tmp_path / "a.bin", b"new")
    assert os.listdir(tmp_path) == ["a.bin"] and (tmp_path / "a.bin").read_bytes() == b"old"


def test_a_writer_that_goes_by_the_ending_finds_it(tmp_path: Path) -> None:
    with replacing(tmp_path / "a.b.png") as partial:
        Image.new("RGB", (2, 1), "red").save(partial)
        assert partial.suffix == ".png" and not (tmp_path / "a.b.png").exists()
    assert os.listdir(tmp_path) == ["a.b.png"]
    with Image.open(tmp_path / "a.b.png") as picture:
        assert picture.size == (2, 1)


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), GeneratorExit()])
def test_a_block_that_stops_leaves_the_old_file_alone(error: BaseException, tmp_path: Path) -> None:
    write_whole(tmp_path / "a.png", b"old")
    with pytest.raises(type(error)), replacing(tmp_path / "a.png") as partial:
        partial.write_bytes(b"half")
        raise error
    assert os.listdir(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"old"


def test_nobody_else_replaces_files() -> None:
    root = Path(msd_core.__file__).parent
    files = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in root.rglob("*.py")}
    assert [name for name, text in files.items() if "os.replace" in text or ".partial" in text] == ["atomic.py"]
