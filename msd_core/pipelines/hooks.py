"""Whether autograd can go through a part of a pipeline: what offloading does to its weights meanwhile.

A graph keeps the tensors that it needs on its way back, and no copies. So the weights have to be then what they were
on the way forth.

    accelerate, CpuOffload         --offload model: a part leaves the device when the next one runs    no, but the last
    accelerate, AlignDevicesHook   --offload sequential: each layer computes with copies, which a      yes
                                   graph keeps, so that all of them are on the device for once
    diffusers' own                 groups offloaded, layers cast, results kept: in place               no
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def steady(module: nn.Module, *, last: bool = False) -> bool:
    """Whether the weights of ``module`` are on the way back what they were on the way forth.

    Args:
        module: a part of a pipeline.
        last: whether no other part runs after it, which takes it away.
    """
    return not any(
        getattr(getattr(part, "_diffusers_hook", None), "hooks", None)
        or (not last and any(type(hook).__name__ == "CpuOffload" for hook in _hooks(part)))
        for part in module.modules()
    )


def _hooks(module: nn.Module) -> Iterator[object]:
    """Of accelerate, those in a sequence each."""
    hook = getattr(module, "_hf_hook", None)
    if hook is not None:
        yield from getattr(hook, "hooks", (hook,))
