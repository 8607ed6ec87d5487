"""`msd fit`: the picture comes back from the file that it writes, at the size and of the kind that was asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from msd_core.cli.main import main
from msd_core.cli.pictures import read_picture, to_pil
from msd_core.generators import View, load_generator, read_svg

pytestmark = pytest.mark.core


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A gradient from red to blue, 24 x 16."""
    path = tmp_path / "a picture.png"
    image = Image.new("RGB", (24, 16))
    image.putdata([(10 * x, 100, 250 - 10 * x) for _ in range(16) for x in range(24)])
    image.save(path)
    return path


def psnr(path: Path, picture: Path) -> float:
    shown = load_generator(path).render(View(16, 24)).detach()
    return float(-10 * (shown - read_picture(picture)).square().mean().log10())


def test_a_picture_as_a_network(picture: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    assert main(["fit", str(picture), "--steps", "40"]) == 0
    written = picture.with_suffix(".safetensors")
    found = psnr(written, picture)
    assert found > 30 and f"{written}: 24x16, {found:.1f} dB" in capsys.readouterr().out
    few = tmp_path / "few.safetensors"
    assert main(["fit", str(picture), "--steps", "2", "--out", str(few)]) == 0
    assert psnr(few, picture) < found - 5


def test_other_kinds_and_sizes(picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "x.safetensors"
    assert main(["fit", str(picture), "--generator", "pixels", "--out", str(out)]) == 0
    assert torch.equal(load_generator(out).render(View(16, 24)), read_picture(picture))
    assert main(["fit", str(picture), "--generator", "latent", "--size", "32x32", "--out", str(out)]) == 0
    assert load_generator(out).render(View(4, 4)).shape == (1, 4, 4, 4)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "x.png"], "--out: got 'x.png'"),
        (["--generator", "oil"], "--generator: got 'oil'"),
        (["--generator", "latent", "--size", "20x16"], "multiples of 8"),
        (["--steps", "0"], "--steps: got '0'"),
        (["--size", "99999x99999", "--generator", "pixels"], "GB of memory"),
    ],
)
def test_wrong_input(words: list[str], message: str, picture: Path, capsys: pytest.CaptureFixture) -> None:
    try:
        status: object = main(["fit", str(picture), *words])
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2 and message in error and len(error.splitlines()) == 1


def test_what_is_no_picture(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "x.png"
    path.write_text("no picture")
    assert main(["fit", str(path)]) == 2
    assert "cannot be read as a picture" in capsys.readouterr().err


def test_a_picture_becomes_an_svg(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the kind's own flags; one that the kind has not is refused."""
    picture = torch.full((3, 24, 32), 0.8)
    picture[:, 6:18, 8:24] = torch.tensor([0.2, 0.3, 0.7])[:, None, None]
    to_pil(picture).save(tmp_path / "p.png")
    assert main(["fit", str(tmp_path / "p.png"), "--generator", "vector", "--paths", "4", "--steps", "60"]) == 0
    assert main(["render", str(tmp_path / "p.safetensors"), "--out", str(tmp_path / "p.svg")]) == 0
    assert 1 <= len(read_svg((tmp_path / "p.svg").read_bytes()).shapes) <= 4
    assert main(["fit", str(tmp_path / "p.png"), "--paths", "4"]) != 0
    assert "--paths: got 4 with the generator 'fourier'; allowed with vector" in capsys.readouterr().err
