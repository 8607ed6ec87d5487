"""What is refused because it cannot fit, and what is let pass."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from msd_core import memory
from msd_core.memory import available_memory, check_distillation, check_fits, check_render, check_samples

pytestmark = pytest.mark.core
DEMO = SimpleNamespace(cell=8, channels=4, encode=abs, decode=abs)
GB = 10**9


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 4 GB free."""
    monkeypatch.setattr(memory, "available_memory", lambda: 4 * GB)


def groups(root: Path, lines: str, files: dict[str, str]) -> Path:
    """A file system with control groups."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(lines)
    for name, text in files.items():
        (root / "sys/fs/cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "sys/fs/cgroup" / name).write_text(text)
    return root


def test_the_room_is_that_of_the_tightest_control_group(tmp_path: Path) -> None:
    files = {
        "a/memory.max": "9000\n", "a/memory.current": "5000\n", "a/memory.stat": "anon 1\ninactive_file 300\n",
        "a/b/memory.max": "max\n", "a/b/memory.current": "1\n", "a/b/memory.stat": "inactive_file 0\n",
        "memory.max": "5000\n", "memory.current": "1\n", "memory.stat": "inactive_file 0\n",
    }  # fmt: skip
    assert available_memory(groups(tmp_path, "0::/a/b\n", files)) == 4300


def test_version_1_has_other_names(tmp_path: Path) -> None:
    files = {
        "memory/x/memory.limit_in_bytes": "9000", "memory/x/memory.usage_in_bytes": "5000",
        "memory/x/memory.stat": "inactive_file 7\ntotal_inactive_file 500\n",
    }  # fmt: skip
    assert available_memory(groups(tmp_path, "5:cpu:/x\n4:memory:/x\n0::/\n", files)) == 4500


def test_without_control_groups_it_is_the_machines_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1234))
    assert available_memory(tmp_path) == 1234


@pytest.mark.usefixtures("free")
@pytest.mark.parametrize(
    ("fits", "does_not"),
    [
        (lambda: check_render(16384, 16384, suffix=".png"), lambda: check_render(40000, 40000, suffix=".png")),
        (lambda: check_render(16383, 16383, suffix=".webp"), lambda: check_render(19000, 19000, suffix=".webp")),
        (lambda: check_render(16384, 16384), lambda: check_render(20000, 20000)),
        (lambda: check_render(8192, 8192, whole=True), lambda: check_render(16384, 16384, whole=True)),
        (lambda: check_samples(256, 64, 64, 64), lambda: check_samples(10**9, 64, 64, 64)),
        (lambda: check_distillation("fourier", 2048, 2048), lambda: check_distillation("fourier", 8192, 8192)),
        (lambda: check_distillation("pixels", 4096, 4096), lambda: check_distillation("pixels", 8192, 8192)),
        (lambda: check_distillation("latent", 16384, 16384), lambda: check_distillation("latent", 50000, 50000)),
        (
            lambda: check_distillation("siren", 1024, 1024, DEMO),
            lambda: check_distillation("siren", 2048, 2048, DEMO),
        ),
        (
            lambda: check_distillation("pixels", 1024, 1024, DEMO, n=1),
            lambda: check_distillation("pixels", 1024, 1024, DEMO, n=3),
        ),
        (
            lambda: check_distillation("pixels", 1024, 1024, DEMO, pull="latent"),
            lambda: check_distillation("pixels", 1280, 1280, DEMO, pull="latent"),
        ),
        (
            lambda: check_distillation("fourier", 512, 512),
            lambda: check_distillation("fourier", 512, 512, options={"hidden": 4096, "layers": 64}),
        ),
        (
            lambda: check_distillation("volume", 1024, 1024, options={"rays": 1024, "ray_samples": 128}),
            lambda: check_distillation("volume", 2048, 2048, options={"rays": 64, "views": 12}),
        ),
    ],
)
def test_what_fits_passes_and_what_does_not_is_refused(fits: object, does_not: object) -> None:
    fits()
    with pytest.raises(ValueError, match=r"(size|n): got .* at least .* GB .* allowed is .* 4 GB .* free.*[Ll]ower"):
        does_not()


@pytest.mark.usefixtures("free")
def test_the_size_that_is_named_fits() -> None:
    with pytest.raises(ValueError, match="to about") as caught:
        check_render(100_000, 50_000, suffix=".png")
    width, height = (int(side) for side in str(caught.value).split("to about ")[1].split(",")[0].split("x"))
    check_render(width, height, suffix=".png")
    assert width > 30_000 and abs(width / height - 2) < 0.01


@pytest.mark.usefixtures("free")
def test_the_message_names_all_that_is_needed() -> None:
    with pytest.raises(ValueError, match=r"n: got 7, which takes at least 5 GB .* the 4 GB that are free. Lower n\."):
        check_fits("n", 7, 5 * GB, "Lower n.")
