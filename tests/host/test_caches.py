"""Caches that skip evaluations: the host's are left out of our loop, those of other packs refused by name."""

from __future__ import annotations

import logging

import comfy.model_patcher
import pytest
import torch
from msd_pack.nodes import host
from test_bridge import guider_of, latent
from test_steps import born, step, values
from tiny_models import tiny_model

try:
    from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
except ImportError:
    pytest.skip("this host has no such caches", allow_module_level=True)

CACHES = {"EasyCache": EasyCacheNode, "LazyCache": LazyCacheNode}
EAGER = {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}


def cached(name: str) -> comfy.model_patcher.ModelPatcher:
    return CACHES[name].execute(tiny_model(), **EAGER).args[0]


def walk(model: object) -> torch.Tensor:
    """Predictions at levels that follow no trajectory."""
    guider = guider_of(model)

    def loop(session: host.Session) -> torch.Tensor:
        levels = (5.0, 4.9, 4.8, 0.5, 9.0)
        return torch.cat([session.denoiser(latent(seed=i), sigma) for i, sigma in enumerate(levels)])

    return host.run(guider, loop, 8, 8)


@pytest.mark.parametrize("name", CACHES)
def test_the_hosts_caches_are_left_out(name: str, caplog: pytest.LogCaptureFixture) -> None:
    model = cached(name)
    with caplog.at_level(logging.WARNING):
        ours = walk(model)
    assert torch.equal(ours, walk(tiny_model()))
    assert f"{name} left out" in caplog.text
    assert any(name.lower() in wrappers for wrappers in model.wrappers.values()), "the model handed in keeps it"
    assert "easycache" in model.model_options["transformer_options"]


@pytest.mark.parametrize("name", CACHES)
def test_left_in_they_would_change_the_predictions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "leave_out_caches", lambda *_: None)
    assert not torch.allclose(walk(cached(name)), walk(tiny_model()), rtol=0.01)


@pytest.mark.parametrize("name", CACHES)
def test_a_step_is_as_without(name: str) -> None:
    made = [values(step("msd", born(), model=model)[0]) for model in (cached(name), tiny_model())]
    assert torch.equal(*made)


@pytest.mark.parametrize(("option", "name"), [("rel_l1_thresh", "TeaCache"), ("magcache_thresh", "MagCache")])
def test_other_caches_are_refused_by_name(option: str, name: str) -> None:
    model = tiny_model()
    model.model_options["transformer_options"][option] = 0.4
    with pytest.raises(ValueError, match=f"model: {name} skips evaluations.*connect the model as it is before {name}"):
        walk(model)
