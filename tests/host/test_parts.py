"""Both parts of the host's guidance from one evaluation, against the host's own two."""

from __future__ import annotations

import comfy.samplers
import pytest
import torch
from msd_pack.nodes import host
from tiny_models import KINDS, conditioning, tiny_model

Z = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def guider(kind: str, positive: int, negative: int | None, cfg: float) -> comfy.samplers.CFGGuider:
    made = comfy.samplers.CFGGuider(tiny_model(kind))
    conditions = {"positive": conditioning(positive)}
    if negative is not None:
        conditions["negative"] = conditioning(negative)
    made.inner_set_conds(conditions)
    made.set_cfg(cfg)
    return made


def alone(kind: str, prompt: int) -> torch.Tensor:
    """The host's prediction under one prompt, without guidance."""
    return host.run(guider(kind, prompt, None, 1.0), lambda session: session.denoiser(Z, 1.5), 8, 8, rows=2)


@pytest.mark.parametrize("cfg", [1.0, 4.0])
@pytest.mark.parametrize("kind", KINDS)
def test_they_are_the_hosts_own_predictions(kind: str, cfg: float) -> None:
    def both(session: host.Session) -> tuple[tuple[torch.Tensor, torch.Tensor], int, torch.Tensor]:
        before = session.denoiser.rows.total
        pair = session.denoiser.parts(Z, 1.5)
        return pair, session.denoiser.rows.total - before, session.denoiser(Z, 1.5)

    (cond, uncond), rows, guided = host.run(guider(kind, 3, 4, cfg), both, 8, 8, rows=2)
    assert rows == 2 * len(Z), "one evaluation of two rows a row"
    torch.testing.assert_close(cond, alone(kind, 3), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(uncond, alone(kind, 4), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(uncond + cfg * (cond - uncond), guided, rtol=1e-4, atol=1e-3)
    assert not torch.allclose(cond, uncond, atol=1e-3), "planted: the two swapped would show"
    assert not cond.is_inference() and not uncond.is_inference()


def test_a_guider_without_two_sides_is_refused() -> None:
    with pytest.raises(ValueError, match="^negative: not connected, and this method needs both"):
        host.run(guider("eps", 3, None, 1.0), lambda session: session.denoiser.parts(Z, 1.5), 8, 8)


def test_a_prompt_inside_the_host_is_refused() -> None:
    with pytest.raises(ValueError, match="prompt: got 'a cat', None; inside the host the guider holds"):
        host.run(guider("eps", 3, 4, 2.0), lambda session: session.model().denoiser("a cat"), 8, 8)
