"""One writer for every file that must be whole."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import msd_core
from msd_core.atomic import write_whole

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


def test_nobody_else_replaces_files() -> None:
    root = Path(msd_core.__file__).parent
    files = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in root.rglob("*.py")}
    assert [name for name, text in files.items() if "os.replace" in text or '.partial"' in text] == ["atomic.py"]
