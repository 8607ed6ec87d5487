"""The demo model's noise-predicting network: a small UNet with cross-attention to the prompt.

Layers and names follow the latent-diffusion UNet of Stable Diffusion 1 (Rombach et al. 2022; Dhariwal & Nichol 2021),
only narrower, so that the weights load into any program that reads its checkpoints.

Conventions: ``x`` (B, 4, H, W) is the variance-preserving noisy latent z/sqrt(1 + sigma^2); ``t`` (B,) is the
timestep in [0, 999], fractions allowed; ``context`` (B, L, C) is the encoded prompt; the output (B, 4, H, W) is the
predicted noise.
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

UNET_CONFIG = {
    "image_size": 16,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 64,
    "num_res_blocks": [1, 1, 1],
    "channel_mult": [1, 2, 2],
    "transformer_depth": [0, 1, 1],
    "transformer_depth_output": [0, 0, 1, 1, 1, 1],
    "transformer_depth_middle": 1,
    "num_heads": 4,
    "num_head_channels": -1,
    "context_dim": 128,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "use_checkpoint": False,
    "legacy": False,
    "adm_in_channels": None,
}
"""The latent-diffusion ``unet_config`` of the demo model."""


def timestep_embedding(t: Tensor, dim: int) -> Tensor:
    """Sinusoidal embedding (B, dim) of timesteps ``t`` (B,): cosines, then sines, of periods up to 10,000 (Vaswani et
    al. 2017).
    """
    half = dim // 2
    frequencies = torch.exp(-math.log(10_000.0) * torch.arange(half, dtype=torch.float32, device=t.device) / half)
    angles = t.float()[:, None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=1)


def _zero(module: nn.Module) -> nn.Module:
    for p in module.parameters():
        nn.init.zeros_(p)
    return module


class _ResBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, emb_channels: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(32, in_channels), nn.SiLU(), nn.Conv2d(in_channels, out_channels, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(emb_channels, out_channels))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(32, out_channels),
            nn.SiLU(),
            nn.Dropout(0.0),  # holds the place that the published layer names give it
            _zero(nn.Conv2d(out_channels, out_channels, 3, padding=1)),
        )
        same = in_channels == out_channels
        self.skip_connection = nn.Identity() if same else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        h = self.in_layers(x) + self.emb_layers(emb)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class _CrossAttention(nn.Module):
    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(dim, dim, bias=False)
        self.to_k = nn.Linear(context_dim, dim, bias=False)
        self.to_v = nn.Linear(context_dim, dim, bias=False)
        self.to_out = nn.Sequential(nn.Linear(dim, dim), nn.Dropout(0.0))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        q, k, v = (
            rearrange(y, "b n (h d) -> b h n d", h=self.heads)
            for y in (self.to_q(x), self.to_k(context), self.to_v(context))
        )
        return self.to_out(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n d -> b n (h d)"))


class _GEGLU(nn.Module):
    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.proj = nn.Linear(dim, 2 * hidden)

    def forward(self, x: Tensor) -> Tensor:
        x, gate = self.proj(x).chunk(2, dim=-1)
        return x * F.gelu(gate)


class _FeedForward(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.net = nn.Sequential(_GEGLU(dim, 4 * dim), nn.Dropout(0.0), nn.Linear(4 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class _TransformerBlock(nn.Module):
    def __init__(self, dim: int, context_dim: int, heads: int) -> None:
        super().__init__()
        self.attn1 = _CrossAttention(dim, dim, heads)
        self.ff = _FeedForward(dim)
        self.attn2 = _CrossAttention(dim, context_dim, heads)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim) for _ in range(3))

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attn1(h, h)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))


class _SpatialTransformer(nn.Module):
    def __init__(self, channels: int, context_dim: int, heads: int, depth: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(32, channels, eps=1e-6)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList(_TransformerBlock(channels, context_dim, heads) for _ in range(depth))
        self.proj_out = _zero(nn.Conv2d(channels, channels, 1))

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        h = rearrange(self.proj_in(self.norm(x)), "b c h w -> b (h w) c")
        for block in self.transformer_blocks:
            h = block(h, context)
        return x + self.proj_out(rearrange(h, "b (h w) c -> b c h w", h=x.shape[2]))


class _Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # bfloat16 weight gradients can be NaN at 1×1 on a CPU
            return self.op(x.to(self.op.weight.dtype))


class _Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        return self.conv(F.interpolate(x, size, mode="nearest"))


class _Stem(nn.Conv2d):
    def forward(self, x: Tensor, emb: Tensor, context: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(x)


class _Stage(nn.ModuleList):
    """Layers run one after the other, each given the timestep's embedding and the prompt; ``size`` is the height and
    width that an `_Upsample` ends with.
    """

    def forward(self, x: Tensor, emb: Tensor, context: Tensor | None, size: tuple[int, int] | None = None) -> Tensor:
        for layer in self:
            x = layer(x, size) if isinstance(layer, _Upsample) else layer(x, emb, context)
        return x


class UNet(nn.Module):
    """Noise-predicting UNet with cross-attention; ``config`` has the keys of :data:`UNET_CONFIG`. Transformers are one
    block deep where no depth is given.

    With ``context_dim`` None it is convolutions alone: no attention, and the context it is called with is not read.
    """

    def __init__(self, config: dict = UNET_CONFIG) -> None:
        super().__init__()
        self.model_channels = config["model_channels"]
        widths = [self.model_channels * m for m in config["channel_mult"]]
        emb = 4 * self.model_channels
        context_dim, heads = config["context_dim"], config["num_heads"]

        blocks = config["num_res_blocks"]
        depths = list(config.get("transformer_depth", [1] * sum(blocks)))
        depths_out = list(config.get("transformer_depth_output", [1] * (sum(blocks) + len(blocks))))

        def block(a: int, b: int, depth: int) -> list[nn.Module]:
            layers: list[nn.Module] = [_ResBlock(a, b, emb)]
            if context_dim is not None and depth > 0:
                layers.append(_SpatialTransformer(b, context_dim, heads, depth))
            return layers

        self.time_embed = nn.Sequential(nn.Linear(self.model_channels, emb), nn.SiLU(), nn.Linear(emb, emb))
        self.input_blocks = nn.ModuleList([_Stage([_Stem(config["in_channels"], widths[0], 3, padding=1)])])
        skips, width = [widths[0]], widths[0]
        for level, w in enumerate(widths):
            for _ in range(config["num_res_blocks"][level]):
                self.input_blocks.append(_Stage(block(width, w, depths.pop(0))))
                width = w
                skips.append(width)
            if level < len(widths) - 1:
                self.input_blocks.append(_Stage([_Downsample(width)]))
                skips.append(width)
        self.middle_block = _Stage(
            [*block(width, width, config.get("transformer_depth_middle", 1)), _ResBlock(width, width, emb)]
        )
        self.output_blocks = nn.ModuleList()
        for level in reversed(range(len(widths))):
            for i in range(config["num_res_blocks"][level] + 1):
                layers = block(width + skips.pop(), widths[level], depths_out.pop())
                width = widths[level]
                if level > 0 and i == config["num_res_blocks"][level]:
                    layers.append(_Upsample(width))
                self.output_blocks.append(_Stage(layers))
        self.out = nn.Sequential(
            nn.GroupNorm(32, width), nn.SiLU(), _zero(nn.Conv2d(width, config["out_channels"], 3, padding=1))
        )

    def forward(self, x: Tensor, t: Tensor, context: Tensor | None = None) -> Tensor:
        emb = self.time_embed(timestep_embedding(t, self.model_channels))
        h, skips = x, []
        for stage in self.input_blocks:
            h = stage(h, emb, context)
            skips.append(h)
        h = self.middle_block(h, emb, context)
        for stage in self.output_blocks:
            h = torch.cat([h, skips.pop()], dim=1)
            h = stage(h, emb, context, skips[-1].shape[-2:] if skips else None)
        return self.out(h)
