"""Ways to fill a hole and to restore a picture inside ComfyUI: this pack's nodes, and the host's own.

Every node runs through its own function, as the host's executor calls it. To be imported in the host's Python, with the
host and the pack imported (tests/host/conftest.py). No way sees what a hole hides: it is filled with the mean of the
rest first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from comfy_extras.nodes_custom_sampler import (
    BasicScheduler,
    CFGGuider,
    KSamplerSelect,
    RandomNoise,
    SamplerCustomAdvanced,
)
from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion
from comfy_extras.nodes_mask import GrowMask, ImageToMask, MaskToImage
from comfy_extras.nodes_post_processing import Blur
from msd_pack.nodes.demo import LoadDemoModel
from msd_pack.nodes.dream import DreamSampler
from msd_pack.nodes.existing import Inpaint, Restore
from msd_pack.nodes.measurement import MeasurementNode
from torch import Tensor

from nodes import (
    CLIPTextEncode,
    ImageScale,
    InpaintModelConditioning,
    KSampler,
    SetLatentNoiseMask,
    VAEDecode,
    VAEEncode,
    VAEEncodeForInpaint,
)

ROWS = 48
"""Network rows of a picture at cfg 1, whatever the way."""
SCHEDULER = "normal"
GROWN = 8
"""Pixels that the host's hard masks are grown by: the best of 0, 8 and 16 on six other pictures."""
SOFT = (8, 4.0)
"""Pixels that Differential Diffusion's soft mask is grown by, and the deviation of its blur: the best of five there."""
DENOISE = (0.3, 0.5, 0.7)
"""Strengths of img2img."""


def call(node: Any, **inputs: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a node's class
    """The outputs of a node, of either kind that the host has."""
    if hasattr(node, "define_schema"):
        return node.execute(**inputs).args
    return tuple(getattr(node(), node.FUNCTION)(**inputs))


@dataclass
class Loaded:
    """The demo model in the host's classes, and how many rows its network was asked."""

    model: Any
    clip: Any
    vae: Any
    cfg: float = 1.0
    rows: int = field(default=0, init=False)

    @classmethod
    def of(cls, cfg: float = 1.0) -> Loaded:
        """By the node that loads it; in half precision it computes so, as on a card, where the host's CPU would not."""
        made = cls(*call(LoadDemoModel, world="demo"), cfg)
        made.model.model.manual_cast_dtype = None
        made.model.model.diffusion_model.register_forward_pre_hook(made._count)
        return made

    def _count(self, module: object, given: tuple[Tensor, ...]) -> None:
        self.rows += len(given[0])


@dataclass(frozen=True)
class Given:
    """What a way is given.

    Attributes:
        loaded: the model.
        image: IMAGE (1, h, w, 3), what is known of the picture.
        words: its caption.
        seed: of the noise.
        mask: MASK (1, h, w) of the hole, if there is one.
        task, side, noise, width: of a restoration: its name in **Measurement**, the picture's side, and noise and blur
            of what is known.
    """

    loaded: Loaded
    image: Tensor
    words: str
    seed: int
    mask: Tensor | None = None
    task: str = "mask"
    side: int = 128
    noise: float = 0.0
    width: float = 4.0

    def said(self) -> dict[str, Any]:
        """The two prompts, as conditioning."""
        clip = self.loaded.clip
        return {name: call(CLIPTextEncode, clip=clip, text=text)[0] for name, text in self._prompts().items()}

    def _prompts(self) -> dict[str, str]:
        return {"positive": self.words, "negative": ""}


Way = Callable[[Given], Tensor]
"""To an IMAGE before anything is pasted."""


def _sampled(given: Given, latent: dict[str, Tensor], model: Any = None, **changes: Any) -> Tensor:  # noqa: ANN401
    """The host's KSampler, Euler in `ROWS` steps, and VAE Decode."""
    loaded = given.loaded
    options = {"steps": ROWS, "cfg": loaded.cfg, "sampler_name": "euler", "scheduler": SCHEDULER, **given.said()}
    options |= {"model": loaded.model if model is None else model, "seed": given.seed, "latent_image": latent}
    (made,) = call(KSampler, **{**options, **changes})
    return call(VAEDecode, vae=loaded.vae, samples=made)[0]


def measured(sampler: str, space: str = "pixels", share: int = 1, temperature: float = 1.0) -> Way:
    """**Measurement** around a CFGGuider, under DreamSampler or a sampler of the host, in ``ROWS / share`` steps."""

    def way(given: Given) -> Tensor:
        loaded = given.loaded
        (guider,) = call(CFGGuider, model=loaded.model, cfg=loaded.cfg, **given.said())
        known = {"mask": given.mask, "space": space} if given.mask is not None else {"width": given.width}
        known |= {"task": given.task, "noise": given.noise}
        guider, latent = call(MeasurementNode, guider=guider, vae=loaded.vae, image=given.image, **known)
        if sampler == "dream":
            (chosen,) = call(DreamSampler, mode="renoise", strength=0.2, temperature=temperature)
        else:
            (chosen,) = call(KSamplerSelect, sampler_name=sampler)
        (sigmas,) = call(BasicScheduler, model=loaded.model, scheduler=SCHEDULER, steps=ROWS // share, denoise=1.0)
        (noise,) = call(RandomNoise, noise_seed=given.seed)
        inputs = {"noise": noise, "guider": guider, "sampler": chosen, "sigmas": sigmas, "latent_image": latent}
        samples = call(SamplerCustomAdvanced, **inputs)[0]
        return call(VAEDecode, vae=loaded.vae, samples=samples)[0]

    return way


def kalman(given: Given) -> Tensor:
    """**Kalman Inpaint** with its default gain: three rows a step; its picture is pasted already."""
    loaded = given.loaded
    inputs = {"image": given.image, "mask": given.mask, "vae": loaded.vae, "model": loaded.model, **given.said()}
    return call(Inpaint, seed=given.seed, steps=ROWS // 3, cfg=loaded.cfg, **inputs)[0]


def restored(given: Given, temperature: float = 1.0) -> Tensor:
    """**Restore Picture**."""
    loaded = given.loaded
    inputs = {"image": given.image, "vae": loaded.vae, "model": loaded.model, **given.said()}
    told = {"task": given.task, "width": given.width, "noise": given.noise, "temperature": temperature}
    return call(Restore, seed=given.seed, steps=ROWS, cfg=loaded.cfg, **inputs, **told)[0]


def grown(given: Given, pixels: int) -> Tensor:
    """The mask by the host's GrowMask."""
    return call(GrowMask, mask=given.mask, expand=pixels, tapered_corners=True)[0]


def softened(given: Given, pixels: int, sigma: float) -> Tensor:
    """The mask grown and blurred by stock nodes."""
    (image,) = call(MaskToImage, mask=grown(given, pixels))
    (image,) = call(Blur, image=image, blur_radius=min(31, round(3 * sigma)), sigma=sigma)
    return call(ImageToMask, image=image, channel="red")[0]


def _masked_latent(given: Given, mask: Tensor) -> dict[str, Tensor]:
    (latent,) = call(VAEEncode, vae=given.loaded.vae, pixels=given.image)
    return call(SetLatentNoiseMask, samples=latent, mask=mask)[0]


def masked(given: Given, pixels: int = GROWN) -> Tensor:
    """VAE Encode, Set Latent Noise Mask, KSampler: the host's masked sampling."""
    return _sampled(given, _masked_latent(given, grown(given, pixels)))


def for_inpaint(given: Given) -> Tensor:
    """VAE Encode (for Inpainting), which greys the hole and grows the mask itself, KSampler."""
    inputs = {"pixels": given.image, "vae": given.loaded.vae, "mask": given.mask, "grow_mask_by": 6}
    return _sampled(given, call(VAEEncodeForInpaint, **inputs)[0])


def inpaint_model(given: Given) -> Tensor:
    """InpaintModelConditioning, KSampler: what it adds only an inpainting model looks at."""
    inputs = {"pixels": given.image, "vae": given.loaded.vae, "mask": grown(given, GROWN), "noise_mask": True}
    positive, negative, latent = call(InpaintModelConditioning, **inputs, **given.said())
    return _sampled(given, latent, positive=positive, negative=negative)


def differential(given: Given, soft: tuple[int, float] | None = None) -> Tensor:
    """Differential Diffusion with the hard mask, or one that is soft towards the outside."""
    (model,) = call(DifferentialDiffusion, model=given.loaded.model)
    mask = grown(given, GROWN) if soft is None else softened(given, *soft)
    return _sampled(given, _masked_latent(given, mask), model)


def enlarged(given: Given) -> Tensor:
    """What is known at the size of the picture, by the host's bicubic."""
    size = {"width": given.side, "height": given.side, "crop": "disabled"}
    return call(ImageScale, image=given.image, upscale_method="bicubic", **size)[0].clamp(0, 1)


def img2img(denoise: float) -> Way:
    """The enlarged picture encoded, and sampled from part of the way; as many steps as every other way has."""

    def way(given: Given) -> Tensor:
        (latent,) = call(VAEEncode, vae=given.loaded.vae, pixels=enlarged(given))
        return _sampled(given, latent, denoise=denoise)

    return way


HOLES: dict[str, tuple[Way, str]] = {
    "Kalman Inpaint": (kalman, ""),
    "Measurement in latents, DreamSampler": (measured("dream", "latents", 3), "known"),
    "Measurement in pixels, DreamSampler": (measured("dream"), "known"),
    "Measurement in pixels, DreamSampler, a third": (measured("dream", share=3), "known"),
    "Measurement in pixels, temperature 0": (measured("dream", temperature=0.0), "known"),
    "Measurement in pixels, temperature 0, a third": (measured("dream", share=3, temperature=0.0), "known"),
    "Measurement in pixels, Euler": (measured("euler"), "known"),
    "Set Latent Noise Mask, as drawn": (lambda given: masked(given, 0), "composite"),
    "Set Latent Noise Mask, grown": (masked, "composite"),
    "VAE Encode (for Inpainting)": (for_inpaint, "composite"),
    "Differential Diffusion, grown": (differential, "composite"),
    "Differential Diffusion, soft": (lambda given: differential(given, SOFT), "composite"),
}
"""Name to the way, and what pastes its picture: Paste Known, the host's ImageCompositeMasked, or itself. "A third":
of the rows. InpaintModelConditioning is left out: without an inpainting model it is the noise mask."""
RESTORED: dict[str, Way] = {
    "as given": enlarged,
    "Restore Picture": restored,
    "Restore Picture, temperature 0": lambda given: restored(given, 0.0),
    "Measurement, DreamSampler": measured("dream"),
    "Measurement, Euler": measured("euler"),
    **{f"img2img, denoise {denoise:g}": img2img(denoise) for denoise in DENOISE},
}
