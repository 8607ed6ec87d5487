"""Prompts by region: the closed form, what overlaps, and holes of a picture that each follow their own prompt."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from msd_core import inpaint
from msd_core.cli.main import main
from msd_core.cli.pictures import read_picture, to_pil
from msd_core.demo.grammar import parse
from msd_core.demo.judge import judge
from msd_core.demo.scenes import draw
from msd_core.denoiser import cost
from msd_core.guidance import GuidedDenoiser
from msd_core.model import load_model
from msd_core.regions import Regional

pytestmark = pytest.mark.core
BEFORE = "a red boat between a blue star and a green fir at sea"
FIRST = "a red boat between a yellow house and a green fir at sea"
SECOND = "a red boat between a blue star and a pink cat at sea"
AFTER = "a red boat between a yellow house and a pink cat at sea"


def constant(value: float):  # noqa: ANN201
    return lambda z, _: torch.full_like(z, value)


def column(*numbers: float) -> Tensor:
    return torch.tensor([numbers])


def test_every_cell_has_the_mean_of_its_prompts() -> None:
    """Outside the base's; in a region its own; where two overlap their mean; at a soft edge a blend with the base."""
    masks = column(0, 1, 1, 0.5, 0.5), column(0, 0, 1, 0, 1.0)
    mixed = Regional(constant(1.0), [(masks[0], constant(10.0)), (masks[1], constant(100.0))])
    wanted = column(1, 10, 55, 0.5 * 10 + 0.5, (0.5 * 10 + 100) / 1.5)
    z = torch.zeros(2, 3, 1, 5, dtype=torch.float64)
    torch.testing.assert_close(mixed(z, 1.0), wanted.double().expand(2, 3, 1, 5), rtol=1e-6, atol=0)
    assert cost(mixed) == 3 and Regional(constant(1.0), [])(z, 1.0).eq(1).all()


def test_a_batch_is_a_loop_and_masks_may_be_by_row() -> None:
    z = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    masks = torch.rand(2, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    both = Regional(lambda z, s: z / (1 + s), [(masks, lambda z, s: -z)])(z, 2.0)
    for i in range(2):
        one = Regional(lambda z, s: z / (1 + s), [(masks[i : i + 1], lambda z, s: -z)])
        torch.testing.assert_close(one(z[i : i + 1], 2.0), both[i : i + 1])


def test_guidance_goes_through() -> None:
    parts = [GuidedDenoiser(constant(a), constant(b), 2.0) for a, b in ((3.0, 1.0), (30.0, 10.0))]
    mixed = Regional(parts[0], [(column(0, 1), parts[1])])
    z = torch.zeros(1, 1, 1, 2)
    cond, uncond = mixed.parts(z, 1.0)
    torch.testing.assert_close(torch.cat([cond, uncond]).flatten(), torch.tensor([3.0, 30.0, 1.0, 10.0]))
    torch.testing.assert_close(mixed(z, 1.0).flatten(), torch.tensor([5.0, 50.0]))
    torch.testing.assert_close(mixed.with_cfg(0.0)(z, 1.0).flatten(), torch.tensor([1.0, 10.0]))
    assert cost(mixed) == 4


@pytest.mark.parametrize(
    ("mask", "denoiser", "message"),
    [
        (torch.ones(3, 3), constant(1.0), r"regions\[0\]: got a mask of shape \(1, 1, 3, 3\) for z"),
        (2 * torch.ones(4, 4), constant(1.0), r"regions\[0\]: got shape"),
        (torch.ones(2, 1, 4, 4), constant(1.0), r"regions\[0\]: got a mask of shape \(2, 1, 4, 4\)"),
        (torch.ones(4, 4), "boat", r"regions\[0\]: got 'boat'"),
    ],
)
def test_wrong_regions(mask: Tensor, denoiser: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Regional(constant(1.0), [(mask, denoiser)])(torch.zeros(1, 1, 4, 4), 1.0)


# --- on the demo model ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model():  # noqa: ANN201
    return load_model()


@pytest.fixture(scope="module")
def picture() -> Tensor:
    return draw([parse(BEFORE)], 128)


def around(number: int) -> Tensor:
    """A hole around a thing of `BEFORE`."""
    x, y, radius = parse(BEFORE).layout()[number]
    left, top, right, bottom = (round(128 * (at + sign * 1.3 * radius)) for sign in (-1, 1) for at in (x, y))
    mask = torch.zeros(128, 128)
    mask[max(0, top) : bottom, max(0, left) : right] = 1
    return mask


def test_one_region_is_the_hole_itself_to_the_bit(model, picture: Tensor) -> None:  # noqa: ANN001
    hole = around(1)
    plain = inpaint(picture, hole, FIRST, model=model, steps=3)
    region = inpaint(picture, None, FIRST, model=model, steps=3, regions=[(hole, FIRST)])
    assert torch.equal(plain.picture, region.picture) and plain.kept == region.kept
    assert region.evaluations == 2 * plain.evaluations
    other = inpaint(picture, None, FIRST, model=model, steps=3, regions=[(hole, BEFORE)])
    assert not torch.equal(plain.picture, other.picture)


def test_two_regions_follow_their_own_prompts(model, picture: Tensor) -> None:  # noqa: ANN001
    """And exchanged they do not make the picture: each prompt acts where its mask is."""
    holes = around(1), around(2)
    stays = torch.maximum(*holes) == 0
    made = inpaint(picture, None, BEFORE, model=model, regions=list(zip(holes, (FIRST, SECOND), strict=True)))
    assert judge(made.picture[0], parse(AFTER)).accepted
    assert torch.equal(made.picture[..., stays], picture[..., stays]) and made.evaluations == 16 * 3 * 3
    swapped = inpaint(picture, None, BEFORE, model=model, regions=list(zip(holes, (SECOND, FIRST), strict=True)))
    assert not judge(swapped.picture[0], parse(AFTER)).accepted
    assert judge(swapped.picture[0], parse(BEFORE)).accepted


def test_a_hole_and_regions_may_overlap(model, picture: Tensor) -> None:  # noqa: ANN001
    """The hole is all of them together; what is outside of all stays."""
    hole, region = around(1), around(1).roll(20, 0)
    made = inpaint(picture, hole, BEFORE, model=model, steps=2, regions=[(region, FIRST), (hole, SECOND)])
    stays = torch.maximum(hole, region) == 0
    assert torch.equal(made.picture[..., stays], picture[..., stays]) and bool(made.picture.isfinite().all())
    assert not torch.equal(made.picture[..., ~stays], picture[..., ~stays])


@pytest.mark.parametrize(
    ("mask", "regions", "message"),
    [
        (None, [], "mask: got None without regions"),
        (None, [(torch.zeros(128, 128), FIRST)], r"regions\[0\]: is 0 everywhere"),
        (None, [(torch.ones(64, 64), FIRST)], r"regions\[0\]: got shape \(1, 1, 64, 64\)"),
        (None, [torch.ones(128, 128)], "regions: got"),
        (None, [(torch.ones(128, 128), "a purple dog")], "dog"),
        (torch.zeros(128, 128), [(torch.ones(128, 128), FIRST)], "mask: is 0 everywhere"),
    ],
)
def test_wrong_holes(mask: Tensor, regions: list, message: str, model, picture: Tensor) -> None:  # noqa: ANN001
    with pytest.raises(ValueError, match=message):
        inpaint(picture, mask, BEFORE, model=model, regions=regions, steps=1)


def test_the_command(tmp_path: Path, picture: Tensor, capsys: pytest.CaptureFixture) -> None:
    to_pil(picture[0]).save(tmp_path / "picture.png")
    words = ["inpaint", str(tmp_path / "picture.png"), BEFORE, "--steps", "1"]
    for number, prompt in ((1, FIRST), (2, SECOND)):
        to_pil(around(number).expand(3, -1, -1)).save(tmp_path / f"{number}.png")
        words += ["--region", str(tmp_path / f"{number}.png"), prompt]
    assert main(words) == 0 and "9 evaluations" in capsys.readouterr().out
    stays = torch.maximum(around(1), around(2)) == 0
    before, filled = (read_picture(tmp_path / name) for name in ("picture.png", "picture-inpainted.png"))
    assert torch.equal(before[..., stays], filled[..., stays]) and not torch.equal(before, filled)
    to_pil(torch.ones(3, 64, 64)).save(tmp_path / "small.png")
    for wrong, message in (
        ([], "--mask: got none"),
        (["--region", str(tmp_path / "small.png"), FIRST], "--region: got"),
    ):
        assert main([*words[:3], *wrong]) == 2
        assert message in capsys.readouterr().err
