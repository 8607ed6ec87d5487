"""Neural images that repeat: tiles without a seam, symmetries exact at every position, and stickers."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from msd_core import distil, load_model
from msd_core.generators import NeuralImage, View, generator_for_size, load_generator, save_generator
from msd_core.generators.neural_image import FIELDS, SWAY, Shifted
from msd_core.generators.sticker import GROUNDS, SHOWN, Before, Sticker

pytestmark = pytest.mark.core
KINDS = tuple(FIELDS)


def made(kind: str, **options: object) -> NeuralImage:
    """With parameters that make a picture of everything it can."""
    image = NeuralImage(kind, resolution=32, hidden=16, layers=2, seed=3, **options)
    with torch.no_grad():
        for i, parameter in enumerate(image.parameters()):
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(i)) * 0.3)
    return image.double()


def at(image: NeuralImage, positions: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.sigmoid(image.field(positions))


def seam(picture: Tensor) -> float:
    """Mean difference over the border between two copies, against that inside."""
    across = (picture[..., :1] - picture[..., -1:]).abs().mean()
    return float(across / picture.diff(dim=-1).abs().mean())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tile", ["x", "y", "xy"])
def test_a_tile_is_periodic(kind: str, tile: str) -> None:
    """f at the two ends of a side, along the axes that repeat and along no other."""
    image = made(kind, tile=tile)
    along = torch.rand(50, generator=torch.Generator().manual_seed(0)).double()
    for axis, name in enumerate("xy"):
        ends = [
            torch.stack([torch.full_like(along, end), along][:: 1 if axis == 0 else -1], dim=-1) for end in (0.0, 1.0)
        ]
        difference = float((at(image, ends[0]) - at(image, ends[1])).abs().max())
        assert (difference < 1e-9) == (name in tile), (name, difference)


@pytest.mark.parametrize("kind", KINDS)
def test_the_border_of_a_tile_is_no_seam(kind: str) -> None:
    """No more differs over it than inside; a picture that does not repeat is found out."""
    with torch.no_grad():
        assert seam(made(kind, tile="xy").render(View(96, 96))) < 1.6
        assert seam(made(kind).render(View(96, 96))) > 3


def test_a_shifted_tile_is_the_tile_rolled() -> None:
    image = made("fourier", tile="xy")
    with torch.no_grad():
        whole = image.render(View(40, 64))
        shifted = image.render(Shifted(40, 64, shift=(8 / 64, -10 / 40)))
    torch.testing.assert_close(shifted, whole.roll((10, -8), dims=(-2, -1)), atol=1e-9, rtol=0)


def test_only_tiles_are_shifted_and_only_a_little() -> None:
    rng = torch.Generator().manual_seed(1)
    assert type(made("fourier").view(0, 9, rng)) is View
    shifts = [made("siren", tile="x").view(step, 9, rng).shift for step in range(20)]  # type: ignore[attr-defined]
    assert all(abs(x) <= SWAY and y == 0 for x, y in shifts) and len(set(shifts)) == 20


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("symmetry", ["mirror-x", "mirror-y", "mirror-xy"])
def test_a_mirror_is_exact(kind: str, symmetry: str) -> None:
    image, p = made(kind, symmetry=symmetry), torch.rand(99, 2, generator=torch.Generator().manual_seed(0)).double()
    for axis, name in enumerate("xy"):
        mirrored = p.clone()
        mirrored[:, axis] = 1 - mirrored[:, axis]
        difference = float((at(image, p) - at(image, mirrored)).abs().max())
        assert (difference < 1e-9) == (name in symmetry.partition("-")[2])


@pytest.mark.parametrize("size", [(32, 32), (48, 32)])
@pytest.mark.parametrize("fold", [2, 5, 6])
@pytest.mark.parametrize("kind", KINDS)
def test_turns_are_exact_in_the_picture_s_own_proportions(kind: str, fold: int, size: tuple[int, int]) -> None:
    """Every turn; of the kaleidoscope every mirror too, of rotate none."""
    sides = torch.tensor(size).double() / max(size)
    q = torch.randn(99, 2, generator=torch.Generator().manual_seed(0)).double() * 0.1
    for symmetry in ("kaleidoscope", "rotate"):
        image = made(kind, symmetry=symmetry, fold=fold, size=size)
        own = at(image, 0.5 + q / sides)
        for turn in range(fold):
            angle = 2 * math.pi * turn / fold
            c, s = math.cos(angle), math.sin(angle)
            turned = q @ torch.tensor([[c, s], [-s, c]], dtype=torch.float64)
            assert float((at(image, 0.5 + turned / sides) - own).abs().max()) < 1e-9
            mirrored = turned * torch.tensor([-1.0, 1.0])
            same = float((at(image, 0.5 + mirrored / sides) - own).abs().max()) < 1e-9
            assert same == (symmetry == "kaleidoscope")
        off = q @ torch.tensor([[math.cos(0.4), 0.39], [-0.39, math.cos(0.4)]]).double()
        assert float((at(image, 0.5 + off / sides) - own).abs().max()) > 1e-3


@pytest.mark.parametrize(
    "options", [{"tile": "xy"}, {"symmetry": "mirror-x", "tile": "y"}, {"symmetry": "rotate", "fold": 3}]
)
def test_files_keep_what_repeats(options: dict, tmp_path) -> None:  # noqa: ANN001
    image = generator_for_size("siren", 32, 16, hidden=8, layers=1, **options)
    save_generator(image, tmp_path / "g.safetensors")
    again = load_generator(tmp_path / "g.safetensors")
    assert torch.equal(again.render(View(8, 16)), image.render(View(8, 16))) and again.config() == image.config()
    assert again.field.tile == options.get("tile", "none")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"tile": "z"}, "tile"),
        ({"symmetry": "twist"}, "symmetry"),
        ({"symmetry": "rotate", "fold": 1}, "fold"),
        ({"symmetry": "rotate", "tile": "x"}, "symmetry: got 'rotate' with tile 'x'"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        NeuralImage("fourier", resolution=8, **wrong)
    assert says in str(caught.value)


# --- stickers ---------------------------------------------------------------------------------------------------------


def test_a_sticker_is_its_colour_over_the_ground() -> None:
    """Closed form, for each ground; white where nothing is said."""
    sticker = Sticker(16, 8, hidden=8, layers=1, seed=2)
    with torch.no_grad():
        colour, opacity = sticker.rgba(View(8, 16)).split([3, 1], dim=1)
        for name, ground in GROUNDS.items():
            wanted = opacity * colour + (1 - opacity) * torch.tensor(ground)[:, None, None]
            torch.testing.assert_close(sticker.render(Before(8, 16, ground=name)), wanted, atol=1e-6, rtol=0)
        assert torch.equal(sticker.render(View(8, 16)), sticker.render(Before(8, 16, ground=SHOWN)))


def test_its_grounds_are_drawn_from_the_run_s_own_source() -> None:
    sticker = Sticker(16, 8, hidden=8, layers=1)
    drawn = [
        [sticker.view(i, 99, rng).ground for i in range(99)] for rng in map(torch.Generator().manual_seed, (1, 1, 2))
    ]
    assert drawn[0] == drawn[1] != drawn[2] and set(drawn[0]) == set(GROUNDS)
    with pytest.raises(ValueError, match="ground"):
        Before(8, 16, ground="plaid")


def test_the_prompt_names_the_ground_that_is_seen() -> None:
    """What the model is asked for in each step is what the view shows."""
    model, asked = load_model(), []

    class Listening:
        def __getattr__(self, name: str) -> object:
            return getattr(model, name)

        def denoiser(self, prompt: str, negative: str, cfg: float):  # noqa: ANN202
            asked.append(prompt)
            return model.denoiser(prompt, negative, cfg)

    words = "a red boat on a {ground} background"
    *_, last = distil(words, generator="sticker", model=Listening(), steps=6, inner_steps=1, seed=1)
    assert asked.pop(0) == "", "for the model's units"
    assert len(set(asked)) > 1 and set(asked) <= {words.replace("{ground}", name) for name in GROUNDS}
    picture = Image.open(io.BytesIO(last.generator.export("sticker.png")))
    assert picture.mode == "RGBA" and picture.size == (512, 512)
    with torch.no_grad():
        rgba = last.generator.rgba(View(512, 512))[0].movedim(0, -1).numpy()
    assert np.abs(np.array(picture) / 255 - rgba).max() <= 0.5 / 255 + 1e-6
