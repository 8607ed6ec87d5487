"""The demo model's parts: the grammar and its painter, the judge, the tokens, the networks and their file."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from msd_core.demo.judge import judge, match_shape, regions
from msd_core.demo.model import LATENT_SCALE, DemoModel, load_demo_model
from msd_core.demo.scenes import COLOURS, SHAPES, Scene, Thing, caption, coverage, draw, parse, random_scene
from msd_core.demo.text import CONTEXT_LENGTH, VOCABULARY, tokenize
from msd_core.demo.train import TrainSettings, normalise_latents, train, train_denoiser


def scenes(count: int, seed: int = 0) -> list[Scene]:
    generator = torch.Generator().manual_seed(seed)
    return [random_scene(generator) for _ in range(count)]


def test_captions_are_read_back() -> None:
    for scene in scenes(200):
        assert parse(caption(scene)) == scene
        assert parse(caption(scene, say_medium=True)) == scene


@pytest.mark.parametrize(
    "text", ["", "a red dog", "red circle", "a huge red circle", "a red circle left of", "a cat on a mat"]
)
def test_text_outside_the_grammar_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="caption: .*shapes circle"):
        parse(text)


@pytest.mark.parametrize(
    "shape, area", [("circle", torch.pi), ("square", 1.68**2), ("diamond", 2 * 1.1 * 0.74), ("triangle", 1.84)]
)
def test_shapes_cover_their_area(shape: str, area: float) -> None:
    half, radius = torch.full((1,), 0.5), torch.full((1,), 0.25)
    covered = float(coverage(shape, half, half, radius, 256).sum()) / 64**2
    assert covered == pytest.approx(area, rel=5e-3)


def test_drawing_a_batch_is_drawing_one_by_one() -> None:
    some = scenes(12)
    together = draw(some, 32)
    for i, scene in enumerate(some):
        assert torch.equal(together[i], draw([scene], 32)[0])


def test_drawing_follows_the_caption() -> None:
    picture = draw([parse("a red square left of a small blue circle on a white background")])[0]
    assert torch.allclose(picture[:, 0, 0], torch.tensor(COLOURS["white"]))
    assert torch.allclose(picture[:, 32, 16], torch.tensor(COLOURS["red"]))
    assert torch.allclose(picture[:, 32, 48], torch.tensor(COLOURS["blue"]))


def test_judge_accepts_what_the_caption_says() -> None:
    some = scenes(40, seed=1)
    pictures = draw(some, 64, torch.Generator().manual_seed(1))
    for picture, scene in zip(pictures, some, strict=True):
        verdict = judge(picture, scene)
        assert verdict.accepted and verdict.place_right and verdict.sizes_right, caption(scene)


def test_judge_sees_through_blur_and_noise_and_any_size() -> None:
    scene = parse("a large yellow star on a blue background")
    picture = draw([scene], 512)
    noisy = picture + 0.08 * torch.randn(picture.shape, generator=torch.Generator().manual_seed(0))
    assert judge(torch.nn.functional.avg_pool2d(noisy, 9, 1, 4, count_include_pad=False), scene).accepted


@pytest.mark.parametrize(
    "change",
    [
        {"things": (Thing("red", "square"),)},
        {"things": (Thing("green", "circle"),)},
        {"ground": "yellow"},
        {"things": (Thing("red", "circle"), Thing("green", "star")), "relation": "above"},
    ],
)
def test_judge_refuses_another_scene(change: dict) -> None:
    told = parse("a red circle on a blue background")
    drawn = dataclasses.replace(told, **change)
    picture = draw([drawn])[0]
    assert judge(picture, drawn).accepted
    if len(drawn.things) == 1:
        assert not judge(picture, told).accepted
    else:
        assert not judge(draw([told])[0], drawn).accepted


def test_judge_refuses_what_is_no_picture() -> None:
    noise = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    for picture in (noise, torch.zeros(3, 64, 64), torch.full((3, 64, 64), 0.5)):
        assert not judge(picture, "a red circle on a blue background").accepted


def test_judge_sees_a_thing_on_the_wrong_side() -> None:
    verdict = judge(draw([parse("a red circle left of a green square")])[0], "a red circle right of a green square")
    assert verdict.accepted and not verdict.place_right


def test_judge_shares_out_things_of_one_colour() -> None:
    scene = parse("a red circle left of a red square on a white background")
    assert judge(draw([scene])[0], scene).accepted


@pytest.mark.parametrize(
    "picture, text, message",
    [
        (torch.zeros(4, 64, 64), "a red circle", "picture: got shape"),
        (torch.zeros(2, 3, 64, 64), "a red circle", "picture: got shape"),
        (torch.zeros(3, 64, 64), "a red circle on a red background", "cannot be seen"),
    ],
)
def test_judge_refuses_bad_input(picture: torch.Tensor, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(picture, text)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_are_told_apart_at_every_size(shape: str) -> None:
    for size in (0.1, 0.15, 0.3):
        half = torch.full((1,), 0.5)
        mask = coverage(shape, half, half, torch.full((1,), size), 64)[0] > 0.5
        name, iou, radius = match_shape(mask)
        assert name == shape and iou > 0.85
        assert radius == pytest.approx(size, rel=0.15)  # a pixel is 0.08 to 0.16 of the smallest


def test_regions_are_connected_and_sorted() -> None:
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[1:4, 1:4] = True
    mask[5:7, 5:7] = True
    mask[4, 4] = True  # touches both at a corner only
    assert [int(r.sum()) for r in regions(mask)] == [9, 4, 1]


def test_tokens_have_the_length_and_name_unknown_words() -> None:
    tokens = tokenize(["a red circle, on a blue background.", ""])
    assert tokens.shape == (2, CONTEXT_LENGTH)
    assert [VOCABULARY[i] for i in tokens[0, :5]] == ["<start>", "a", "red", "circle", "on"]
    assert tokens[1].tolist() == [0] + [1] * (CONTEXT_LENGTH - 1)
    with pytest.raises(ValueError, match="do not|does not know: dog, mat"):
        tokenize(["a red dog on a mat"])
    with pytest.raises(ValueError, match="at most"):
        tokenize(["a " * CONTEXT_LENGTH])


def test_all_captions_fit_the_context() -> None:
    assert max(len(caption(s, say_medium=True).split()) for s in scenes(500)) <= CONTEXT_LENGTH - 2


def random_weights(seed: int = 0) -> DemoModel:
    """A random model whose zero-initialised last layers are filled too, so that its output says something."""
    model = DemoModel.random(seed).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    for p in model.unet.parameters():
        if not p.any():
            p.copy_(0.1 * torch.randn(p.shape, generator=generator))
    return model


def test_random_model_leaves_the_global_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    DemoModel.random(3)
    assert torch.equal(before, torch.random.get_rng_state())


def test_file_round_trip_in_half_precision(tmp_path: Path) -> None:
    model, path = random_weights(), tmp_path / "model.safetensors"
    model.save(path)
    assert path.stat().st_size <= 12_000_000
    again = load_demo_model(path)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a.half().float(), b)


def test_foreign_truncated_and_missing_files_are_refused(tmp_path: Path) -> None:
    model, path = random_weights(), tmp_path / "model.safetensors"
    with pytest.raises(ValueError, match="there is no file"):
        load_demo_model(path)
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match="format None"):
        load_demo_model(path)
    model.save(path)
    save_file(load_file(path), path, {"format": "msd-demo-model", "version": "99"})
    with pytest.raises(ValueError, match="version '99'"):
        load_demo_model(path)
    model.save(path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ValueError, match="truncated"):
        load_demo_model(path)


def test_guidance_batches_cond_and_uncond() -> None:
    model = random_weights()
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    guided = model.denoiser("a red circle", "a blue square", cfg=3.0)
    cond, uncond = model.denoiser("a red circle")(z, 1.5), model.denoiser("a blue square")(z, 1.5)
    assert (cond - uncond).abs().max() > 1e-3
    torch.testing.assert_close(guided(z, 1.5), uncond + 3.0 * (cond - uncond), rtol=1e-3, atol=1e-4)
    assert (guided.cost, guided.with_cfg(1.0).cost) == (2, 1)
    torch.testing.assert_close(guided.with_cfg(1.0)(z, 1.5), cond)


def test_the_parts_recombine_and_share_one_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rows of the network a row of z, in one call, whatever cfg is: what CSD needs."""
    model = random_weights()
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    calls: list[int] = []
    unet = model.unet.forward
    monkeypatch.setattr(model.unet, "forward", lambda x, *rest: calls.append(len(x)) or unet(x, *rest))
    for cfg in (1.0, 3.0, -7.5):
        denoiser = model.denoiser(["a red circle", "a white cross"], "a blue square", cfg=cfg)
        for sigma in (1.5, torch.tensor([0.5, 4.0])):
            calls.clear()
            cond, uncond = denoiser.parts(z, sigma)
            assert calls == [4]
            spread = (cond - uncond).abs().max() * abs(cfg)
            whole = denoiser(z, sigma)
            torch.testing.assert_close(uncond + cfg * (cond - uncond), whole, rtol=0, atol=float(1e-4 * spread + 1e-4))
            assert (cond + cfg * (uncond - cond) - whole).abs().max() > 1e-2, "planted: the two exchanged"


def test_draws_of_several_prompts_come_sample_by_sample() -> None:
    """B prompts serve N B rows: row i of every draw has prompt i."""
    model = random_weights()
    z = torch.randn(4, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    prompts = ["a red circle", "a small blue star above a white cross"]
    together = model.denoiser(prompts, cfg=2.0)(z, 1.5)
    for i in range(4):
        alone = model.denoiser(prompts[i % 2], cfg=2.0)(z[i : i + 1], 1.5)
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-3, atol=1e-3)


def test_one_prompt_a_row_is_each_prompt_alone() -> None:
    model = random_weights()
    z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    prompts = ["a red circle", "a small blue star above a white cross"]
    together = model.denoiser(prompts, cfg=2.0)(z, torch.tensor([0.5, 4.0]))
    for i, (prompt, sigma) in enumerate(zip(prompts, (0.5, 4.0), strict=True)):
        torch.testing.assert_close(
            together[i : i + 1], model.denoiser(prompt, cfg=2.0)(z[i : i + 1], sigma), rtol=1e-3, atol=1e-4
        )


def test_wrong_shapes_are_refused() -> None:
    model = random_weights()
    with pytest.raises(ValueError, match="z: got shape"):
        model.denoiser("a red circle")(torch.zeros(1, 3, 8, 8), 1.0)
    with pytest.raises(ValueError, match="2 prompts"):
        model.denoiser(["a red circle", "a red star"])(torch.zeros(3, 4, 8, 8), 1.0)
    with pytest.raises(ValueError, match="multiples of 8"):
        model.encode(torch.zeros(1, 3, 60, 64))


def test_encode_is_differentiable() -> None:
    model = random_weights()
    generator = torch.Generator().manual_seed(0)
    picture = torch.rand(1, 3, 16, 16, generator=generator, requires_grad=True)
    direction = torch.randn(picture.shape, generator=generator)
    weight = torch.randn(1, 4, 2, 2, generator=generator)
    (gradient,) = torch.autograd.grad((model.encode(picture) * weight).sum(), picture)
    h = 1e-3
    ends = [float((model.encode(picture.detach() + s * h * direction) * weight).double().sum()) for s in (1, -1)]
    assert float((gradient * direction).sum()) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=2e-2)


def test_normalised_latents_keep_the_pictures() -> None:
    autoencoder = random_weights().autoencoder
    pictures = draw(scenes(16), 64)
    before = autoencoder.decode(autoencoder.encode(2 * pictures - 1))
    _, log_variance = autoencoder.moments(2 * pictures - 1)
    spread = autoencoder.encode(2 * pictures - 1).std(dim=(0, 2, 3))
    normalise_latents(autoencoder, pictures)
    x = autoencoder.encode(2 * pictures - 1) * LATENT_SCALE
    torch.testing.assert_close(x.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(x.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(autoencoder.decode(x / LATENT_SCALE), before, atol=1e-3, rtol=1e-3)
    shift = autoencoder.moments(2 * pictures - 1)[1] - log_variance
    expected = -2 * (spread * LATENT_SCALE).log()[None, :, None, None].expand_as(shift)
    torch.testing.assert_close(shift, expected, atol=1e-3, rtol=1e-3)


def test_training_resumes_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {"autoencoder_steps": 3, "sharpen_steps": 3, "steps": 3, "faithful_steps": 3}
    tiny = TrainSettings(side=16, autoencoder_batch=2, scenes=128, batch=4, save_every=1, **few)
    whole = load_file(train(tiny, tmp_path / "whole"))

    for stage in ("autoencoder", "sharpen", "denoiser", "faithful"):

        class Interrupted(tqdm):
            """A progress bar that is interrupted before the third step of ``stage``."""

            def update(self, n: float | None = 1, stage: str = stage) -> bool | None:
                shown = super().update(n)
                if self.n == 2 and self.desc == stage:
                    raise KeyboardInterrupt
                return shown

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("msd_core.demo.train.tqdm", Interrupted)
            train(tiny, tmp_path / "parts")
        assert torch.load(tmp_path / "parts" / f"{stage}.pt", weights_only=True)["step"] == 2
    resumed = load_file(train(tiny, tmp_path / "parts"))
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def trained_denoiser(folder: Path, *, steps: int = 2, **changed: float) -> dict[str, Tensor]:
    folder.mkdir()
    latents = torch.randn(16, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    save_file({"latents": latents, "tokens": tokenize(["a red circle"] * 16)}, folder / "latents.safetensors")
    model = DemoModel.random(0)
    train_denoiser(model, TrainSettings(steps=steps, batch=2, **changed), folder)
    return {**model.unet.state_dict(), **torch.load(folder / "denoiser.pt", weights_only=True)["model"]}


def loss_of_the_first_step(monkeypatch: pytest.MonkeyPatch, folder: Path, **changed: float) -> float:
    """The first loss of a training whose network is the freshly initialised one, which predicts no noise at all."""
    losses = []
    with monkeypatch.context() as patch:
        patch.setattr("msd_core.demo.train._run", lambda walk, *rest: losses.extend(step.loss for step in walk))
        trained_denoiser(folder, steps=1, **changed)
    return losses[0]


def test_training_without_dream_is_what_it_was(tmp_path: Path) -> None:
    default, infinite = trained_denoiser(tmp_path / "a"), trained_denoiser(tmp_path / "b", dream=math.inf)
    assert all(torch.equal(default[k], infinite[k]) for k in default)
    changed = trained_denoiser(tmp_path / "c", dream=1.0)
    assert not all(torch.equal(default[k], changed[k]) for k in default)


def test_dream_trains_on_its_own_noise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # a fresh network predicts 0 (its last layer is zero), so that p = 0 doubles the noise and quadruples the loss
    standard = loss_of_the_first_step(monkeypatch, tmp_path / "inf")
    assert loss_of_the_first_step(monkeypatch, tmp_path / "0", dream=0.0) == pytest.approx(4 * standard, rel=1e-5)
    assert standard < loss_of_the_first_step(monkeypatch, tmp_path / "1", dream=1.0) < 4 * standard
    with pytest.raises(ValueError, match="p: got -1.0"):
        TrainSettings(dream=-1.0)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (72, 72), (56, 64), (24, 88)])
def test_every_multiple_of_the_cell_is_a_size(height: int, width: int) -> None:
    """Those that its UNet cannot halve, too."""
    model = load_demo_model()
    picture = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    x = model.encode(picture)
    denoised = model.denoiser("a red circle on a blue background", cfg=2.0)(x, 1.5)
    assert denoised.shape == x.shape == (1, 4, height // 8, width // 8)
    assert model.decode(denoised).shape == picture.shape and torch.isfinite(denoised).all()
