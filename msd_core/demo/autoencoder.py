"""The demo model's variational autoencoder: pictures to a 4-channel latent at an eighth of the size, and back.

The layers and their names follow the latent-diffusion autoencoder (Rombach et al. 2022, "KL-f8"), only narrower, so
that the weights load into any program that reads Stable Diffusion checkpoints.

Conventions: pictures are (B, 3, H, W) in [-1, 1] here; H and W are multiples of 8. Latents are (B, 4, H/8, W/8),
unscaled.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

DDCONFIG = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 128,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 32,
    "ch_mult": [1, 1, 2, 3],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
"""The latent-diffusion ``ddconfig`` of the demo autoencoder."""


NORM_CHANNELS = 8
"""Channels of a normalisation group. A group of one or two loses the absolute values that it is normalised by, and with
them the absolute colour of the picture; Stable Diffusion's 32 groups have at least four channels each.
"""


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // NORM_CHANNELS, channels, eps=1e-6)


class _ResnetBlock(nn.Module):
    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm1 = _norm(in_channels)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm2 = _norm(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1)
        if in_channels != out_channels:
            self.nin_shortcut = nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class _AttnBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = _norm(channels)
        self.q, self.k, self.v, self.proj_out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (conv(h).flatten(2).transpose(1, 2) for conv in (self.q, self.k, self.v))
        h = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj_out(h.transpose(1, 2).reshape(x.shape))


class _Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class _Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class _Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = _ResnetBlock(channels, channels)
        self.attn_1 = _AttnBlock(channels)
        self.block_2 = _ResnetBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class _Level(nn.Module):
    """One resolution: residual blocks, then a change of resolution unless it is the last."""

    def __init__(self, widths: list[int], resample: tuple[str, nn.Module] | None) -> None:
        super().__init__()
        self.block = nn.ModuleList(_ResnetBlock(a, b) for a, b in zip(widths, widths[1:], strict=False))
        self.resample_name = resample[0] if resample else None
        if resample:
            self.add_module(*resample)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        return getattr(self, self.resample_name)(x) if self.resample_name else x


class Encoder(nn.Module):
    """Picture (B, 3, H, W) in [-1, 1] to the moments (B, 8, H/8, W/8) of the posterior (means, then log-variances)."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        widths = [config["ch"] * m for m in config["ch_mult"]]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(config["in_channels"], config["ch"], 3, padding=1)
        self.down = nn.ModuleList(
            _Level(
                [config["ch"] if i == 0 else widths[i - 1]] + [w] * config["num_res_blocks"],
                ("downsample", _Downsample(w)) if i < last else None,
            )
            for i, w in enumerate(widths)
        )
        self.mid = _Middle(widths[-1])
        self.norm_out = _norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], 2 * config["z_channels"], 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class Decoder(nn.Module):
    """Latent (B, 4, H/8, W/8) to picture (B, 3, H, W), about [-1, 1]."""

    def __init__(self, config: dict) -> None:
        super().__init__()
        widths = [config["ch"] * m for m in config["ch_mult"]]
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(config["z_channels"], widths[-1], 3, padding=1)
        self.mid = _Middle(widths[-1])
        self.up = nn.ModuleList(
            _Level(
                [widths[min(i + 1, last)]] + [w] * (config["num_res_blocks"] + 1),
                ("upsample", _Upsample(w)) if i > 0 else None,
            )
            for i, w in enumerate(widths)
        )
        self.norm_out = _norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], config["out_ch"], 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z))
        for level in reversed(self.up):
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(h)))


class Autoencoder(nn.Module):
    """KL-regularised autoencoder (Rombach et al. 2022, § 3.1), factor 8, 4 latent channels."""

    def __init__(self, config: dict = DDCONFIG) -> None:
        super().__init__()
        channels = config["z_channels"]
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.quant_conv = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.post_quant_conv = nn.Conv2d(channels, channels, 1)

    def moments(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the posterior, each (B, 4, H/8, W/8); ``picture`` is (B, 3, H, W) in [-1, 1]."""
        mean, log_variance = self.quant_conv(self.encoder(picture)).chunk(2, dim=1)
        return mean, log_variance.clamp(-30.0, 20.0)

    def encode(self, picture: Tensor) -> Tensor:
        """Posterior mean (B, 4, H/8, W/8) of ``picture`` (B, 3, H, W) in [-1, 1]; differentiable."""
        return self.moments(picture)[0]

    def decode(self, latent: Tensor) -> Tensor:
        """Picture (B, 3, H, W), about [-1, 1], of ``latent`` (B, 4, H/8, W/8); differentiable."""
        return self.decoder(self.post_quant_conv(latent))
