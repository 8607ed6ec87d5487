"""A mask confines what a step changes; a batch of generators is moved side by side, each as it would move alone."""

from __future__ import annotations

import pytest
import torch
from msd_pack.msd_core.generators.batch import Batch
from msd_pack.nodes.generators import HostGenerator, NeuralImageGenerator, RenderGenerator
from msd_pack.nodes.progress import sheet
from test_steps import born, step, values

LEFT = torch.zeros(16, 32)
LEFT[:, :16] = 1


def drawn(generator: HostGenerator) -> torch.Tensor:
    """The picture (B, C, H, W)."""
    view = generator.canvas.view
    return generator.generator.render(generator.generator.frame(view.height, view.width)).detach()


def moved(mask: torch.Tensor | None, representation: str = "pixels", **inputs: object) -> torch.Tensor:
    """Largest change (H, W) of a generator's picture in a step."""
    start = born(representation, **inputs)
    made = step("sds", start, mask=mask, optimizer="gd", steps=1)[0]
    return (drawn(made) - drawn(start)).abs().amax(dim=(0, 1))


@pytest.mark.parametrize("mask", [LEFT, LEFT[None], LEFT[:8, :], LEFT.repeat_interleave(4, 0).repeat_interleave(4, 1)])
def test_pixels_move_where_the_mask_is_white(mask: torch.Tensor) -> None:
    """As MASK with and without a batch, and in other sizes: one of other proportions is refused."""
    if mask.shape == (8, 32):
        with pytest.raises(ValueError, match="mask: got 32x8 for a picture of 32x16"):
            moved(mask)
        return
    change = moved(mask)
    assert float(change[:, :16].min()) > 0 and float(change[:, 16:].max()) == 0
    assert float(moved(None)[:, 16:].min()) > 0, "without a mask the right half moves"


def test_a_network_is_held_outside() -> None:
    """Its parameters reach across the picture: without the hold the right half moves with the left."""
    start = born("fourier")
    made = step("sds", start, mask=LEFT, optimizer="adam", learning_rate=0.01, steps=30, inner_steps=4)[0]
    change = (drawn(made) - drawn(start)).square().mean(dim=(0, 1)).sqrt()
    assert float(change[:, 17:].mean()) < 0.2 * float(change[:, :15].mean())


def test_grey_moves_less() -> None:
    whole, grey = moved(None), moved(torch.full((16, 32), 0.25))
    assert torch.allclose(grey, 0.25 * whole, rtol=1e-3, atol=1e-6)


def test_a_mask_confines_a_latent_by_cells() -> None:
    change = moved(LEFT, "latent")
    assert float(change[:, :2].min()) > 0 and float(change[:, 2:].max()) == 0


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.zeros(16, 32), "mask: is 0 everywhere"),
        (torch.zeros(0, 16, 32), r"mask: got shape \(0, 16, 32\)"),
        (torch.ones(3, 16, 32), "mask: got 3 of them for a generator of 1"),
        (2 * torch.ones(16, 32), "values from 2 to 2"),
        (torch.full((16, 32), float("nan")), "mask"),
    ],
)
def test_masks_that_say_nothing_are_refused(mask: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        moved(mask)


@pytest.mark.parametrize("representation", ["fourier", "pixels", "latent"])
@pytest.mark.parametrize("method", ["msd", "sds"])
def test_a_batch_is_its_members_one_by_one(method: str, representation: str) -> None:
    """Seeds seed + i of the generators and of the noise."""
    batch, picture, *_ = step(method, born(representation, seed=5, batch=2), seed=7, optimizer="gd", inner_steps=1)
    assert isinstance(batch.generator, Batch) and batch.generator.rows == 2
    for i in range(2):
        alone = step(method, born(representation, seed=5 + i), seed=7 + i, optimizer="gd", inner_steps=1)
        member = torch.cat([p.detach().flatten() for p in batch.generator[i].parameters()])
        assert torch.allclose(member, values(alone[0]), atol=1e-5)
        if representation != "latent":
            assert torch.allclose(picture[i], alone[1][0], atol=1e-4)
    assert not torch.allclose(picture[0], picture[1], atol=1e-4) if representation != "latent" else True


def test_a_mask_a_picture_of_a_batch() -> None:
    masks = torch.stack([LEFT, 1 - LEFT])
    start = born("pixels", batch=2)
    made = step("sds", start, mask=masks, optimizer="gd", steps=1)[0]
    change = (drawn(made) - drawn(start)).abs().amax(dim=1)
    for row, mask in zip(change, masks, strict=True):
        assert float(row[mask == 0].max()) == 0 and float(row[mask == 1].min()) > 0


def test_a_batch_is_drawn_whole() -> None:
    start = born(batch=3)
    with torch.inference_mode():
        image = RenderGenerator.execute(start, 40, 24).args[0]
        alone = RenderGenerator.execute(born(seed=2), 40, 24).args[0]
    assert image.shape == (3, 24, 40, 3) and torch.equal(image[2], alone[0])


def test_a_sheet_of_previews() -> None:
    images = torch.arange(1, 4.0)[:, None, None, None].expand(3, 3, 2, 4)
    made = sheet(images)
    assert made.shape == (1, 3, 4, 8)
    corners = [float(made[0, 0, top, left]) for top in (0, 2) for left in (0, 4)]
    assert corners == [1, 2, 3, 0] and torch.equal(sheet(images[:1]), images[:1])


def test_the_widget_is_the_last_of_those_that_were() -> None:
    ids = [entry.id for entry in NeuralImageGenerator.GET_SCHEMA().inputs]
    assert ids[ids.index("channels") + 1] == "batch"
