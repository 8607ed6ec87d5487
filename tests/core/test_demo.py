"""The demo model's parts: the tokens, the networks, their file and their training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from msd_core.demo.autoencoder import NORM_CHANNELS
from msd_core.demo.model import FORMER_MODELS, LATENT_SCALE, DemoModel, former_model, load_demo_model
from msd_core.demo.scenes import Scene, caption, draw, random_scene
from msd_core.demo.solids.model import load_solid_model
from msd_core.demo.text import CONTEXT_LENGTH, SYNONYMS, VOCABULARY, suggestion, tokenize
from msd_core.demo.train import TrainSettings, normalise_latents, train, train_denoiser
from msd_core.demo.train_autoencoder import crops, disturb, edge_weights, patches
from msd_core.demo.train_denoiser import Pool, denoiser_loss, scene_latents, trained_networks


def scenes(count: int, seed: int = 0) -> list[Scene]:
    generator = torch.Generator().manual_seed(seed)
    return [random_scene(generator) for _ in range(count)]


def test_tokens_have_the_length_and_name_unknown_words() -> None:
    tokens = tokenize(["a red circle, on a blue background.", ""])
    assert tokens.shape == (2, CONTEXT_LENGTH)
    assert [VOCABULARY[i] for i in tokens[0, :5]] == ["<start>", "a", "red", "circle", "on"]
    assert tokens[1].tolist() == [0] + [1] * (CONTEXT_LENGTH - 1)
    with pytest.raises(ValueError, match="does not know: dog, mat.*it knows only things: circle.*grounds: .*at sea"):
        tokenize(["a red dog on a mat"])
    with pytest.raises(ValueError, match="at most"):
        tokenize(["a " * CONTEXT_LENGTH])


@pytest.mark.parametrize(
    "word, known",
    [("big", "large"), ("boats", "boat"), ("umbrela", "umbrella"), ("oceann", "at sea"), ("cars", "car"), ("xyz", "")],
)
def test_unknown_words_get_a_suggestion(word: str, known: str) -> None:
    assert suggestion(word) == known
    with pytest.raises(ValueError) as refusal:
        tokenize([f"a red {word}"])
    assert (f"did you mean {word} → {known}?" in str(refusal.value)) == bool(known)


def test_suggestions_are_of_the_grammar_and_for_words_outside_it() -> None:
    assert not set(SYNONYMS) & set(VOCABULARY)
    assert {word for known in SYNONYMS.values() for word in known.split()} <= set(VOCABULARY)


def test_all_captions_fit_the_context() -> None:
    longest = (len(caption(s, say_medium=True, say_flat=True).split()) for s in scenes(500))
    assert max(longest) <= CONTEXT_LENGTH - 2
    tokenize([caption(s) for s in scenes(500)])


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
    assert path.stat().st_size <= 20_000_000
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
    save_file(load_file(path), path, {"format": "msd-demo-model", "version": "1"})
    with pytest.raises(ValueError, match="version '1' of msd-demo-model"):
        load_demo_model(path)
    model.save(path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(ValueError, match="truncated"):
        load_demo_model(path)


def test_a_saved_run_on_a_former_model_is_told_what_to_do() -> None:
    (digest,) = FORMER_MODELS
    assert "finish it with the release" in former_model(digest) and former_model("0" * 64) == ""


def test_every_normalisation_group_of_the_autoencoder_keeps_absolute_values() -> None:
    """A group of one channel maps x and 2 x to one result; these groups have channels enough to tell them apart."""
    model = DemoModel.random(0)
    norms = [m for m in model.autoencoder.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert norms and all(m.num_channels // m.num_groups >= 4 for m in norms)
    assert all(m.num_channels == m.num_groups * NORM_CHANNELS for m in norms)


def test_sizes_that_do_not_halve_twice_work() -> None:
    model = random_weights()
    for height, width in ((1, 1), (5, 7), (6, 4)):
        z = torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(0))
        assert model.denoiser("a red circle")(z, 1.0).shape == z.shape


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


@pytest.mark.parametrize(
    ("prompt", "negative", "message"),
    [
        ("a red boat", 4.0, "negative: got 4.0; allowed is a text. Pass the guidance scale by its name, cfg."),
        ("a red boat", None, "negative: got None; allowed is a text. Pass a str."),
        ("a red boat", ["a red boat"], r"negative: got \['.*'\]; allowed is a text. Pass a str."),
        (4.0, "", "prompt: got 4.0; allowed is a text, or a list of texts, one a row. Pass one."),
        (["a red boat", 4.0], "", "prompt: got .*; allowed is a text, or a list"),
        ([], "", r"prompt: got \[\]; allowed is a text, or a list"),
    ],
)
@pytest.mark.parametrize("load", [load_demo_model, load_solid_model])
def test_what_is_no_text_is_refused(
    load: Callable[[], DemoModel], prompt: object, negative: object, message: str
) -> None:
    """A scale in the place of the negative prompt first of all."""
    with pytest.raises(ValueError, match=f"^{message}"):
        load().denoiser(prompt, negative)  # type: ignore[arg-type]


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
    pictures = draw(scenes(16), 48)
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


FEW = {"autoencoder_steps": 2, "whole_steps": 1, "autoencoder_batch": 4, "whole_batch": 2, "scenes": 64, "pool": 128}
TINY = TrainSettings(side=16, refresh=2, steps=3, batch=4, save_every=1, **FEW)


def test_training_resumes_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = load_file(train(TINY, tmp_path / "whole"))

    for stage in ("autoencoder", "denoiser"):

        class Interrupted(tqdm):
            """A progress bar that is interrupted before the third step of ``stage``."""

            def update(self, n: float | None = 1, stage: str = stage) -> bool | None:
                shown = super().update(n)
                if self.n == 2 and self.desc == stage:
                    raise KeyboardInterrupt
                return shown

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr("msd_core.demo.train_autoencoder.tqdm", Interrupted)
            train(TINY, tmp_path / "parts")
        assert torch.load(tmp_path / "parts" / f"{stage}.pt", weights_only=True)["step"] == 2
    resumed = load_file(train(TINY, tmp_path / "parts"))
    assert all(torch.equal(whole[k], resumed[k]) for k in whole)


def test_a_training_goes_on_with_its_own_settings_only(tmp_path: Path) -> None:
    """The learning rate's course depends on the number of steps: more of them are another training."""
    first = load_file(train(TINY, tmp_path))
    with pytest.raises(ValueError, match="--steps: got 5, but the training in .* has 3"):
        train(dataclasses.replace(TINY, steps=5), tmp_path)
    again = load_file(train(TINY, tmp_path))
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_the_pool_replaces_its_oldest_and_remembers_how_many_joined() -> None:
    tokens = tokenize(["a red circle"])
    rows = [torch.full((1, 4, 2, 2), float(i)) for i in range(5)]
    pool = Pool(rows[0], tokens, capacity=3)
    assert len(pool) == 1
    for row in rows[1:]:
        pool.join(row, tokens)
    assert len(pool) == 3 and pool.latents[:, 0, 0, 0].tolist() == [3.0, 4.0, 2.0]
    again = Pool(rows[0], tokens, capacity=3)
    again.load_state_dict(pool.state_dict())
    assert int(again.joined) == 5


def test_new_scenes_are_others() -> None:
    autoencoder = DemoModel.random(0).autoencoder
    one, other = (scene_latents(autoencoder, TINY, first, 4) for first in (0, 4))
    assert not torch.equal(one[0], other[0])
    assert all(torch.equal(a, b) for a, b in zip(one, scene_latents(autoencoder, TINY, 0, 4), strict=True))


def test_weights_of_levels() -> None:
    """An untrained network predicts 0, so that the loss is the mean of w n², and w = min(SNR, gamma)/SNR."""
    networks = trained_networks(DemoModel.random(0))
    t, noise = torch.tensor([5, 900]), torch.ones(2, 4, 4, 4)
    snr = [float(a / (1 - a)) for a in DemoModel.random(0).schedule.alphas_cumprod[t].double()]
    loss = denoiser_loss(networks, torch.zeros(2, 4, 4, 4), tokenize(["", ""]), t, noise, min_snr=5.0)
    assert float(loss) == pytest.approx(sum(min(s, 5.0) / s for s in snr) / 2, rel=1e-4)
    assert float(denoiser_loss(networks, noise, tokenize(["", ""]), t, noise)) == pytest.approx(1.0)


def test_pictures_of_the_first_stage() -> None:
    generator = torch.Generator().manual_seed(0)
    for picture in patches(8, 32, generator):
        assert len(picture.flatten(1).unique(dim=1).T) in (1, 4, 16, 64)
    some = draw(scenes(4), 32)
    assert not torch.equal(disturb(some, generator), some)
    assert 0 <= float(disturb(some, generator).min()) <= float(disturb(some, generator).max()) <= 1
    numbered = torch.arange(64.0).reshape(1, 1, 8, 8).expand(5, 3, -1, -1)
    for crop in crops(numbered, 4, generator):
        assert torch.equal(crop[0] - crop[0, 0, 0], numbered[0, 0, :4, :4])


def test_crops_see_every_pixel() -> None:
    """Corners too, in a ninth of all squares; with places drawn evenly it would be a twenty-fifth."""
    numbered = torch.arange(64.0).reshape(1, 1, 8, 8).expand(4000, -1, -1, -1)
    seen = torch.bincount(crops(numbered, 4, torch.Generator().manual_seed(0)).flatten().long(), minlength=64) / 4000
    assert float(seen.min()) > 1 / 10 and float(seen.max()) < 0.5


def test_edges_weigh_more_and_even_ground_weighs_one() -> None:
    picture = torch.zeros(1, 3, 16, 16)
    picture[..., 8:] = 1
    weights = edge_weights(picture, 4.0)[0, 0]
    assert weights[:, :5].eq(1).all() and weights[:, 6:10].eq(5).all() and weights[:, 12:].eq(1).all()


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
        patch.setattr("msd_core.demo.train_denoiser.run", lambda walk, *rest: losses.extend(step.loss for step in walk))
        trained_denoiser(folder, steps=1, **changed)
    return losses[0]


@pytest.mark.long
def test_training_without_dream_is_what_it_was(tmp_path: Path) -> None:
    default, infinite = trained_denoiser(tmp_path / "a"), trained_denoiser(tmp_path / "b", dream=math.inf)
    assert all(torch.equal(default[k], infinite[k]) for k in default)
    changed = trained_denoiser(tmp_path / "c", dream=1.0)
    assert not all(torch.equal(default[k], changed[k]) for k in default)


@pytest.mark.long
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
