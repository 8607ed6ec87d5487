"""Several generators of one kind side by side: one batch for the model, each with its own randomness.

Member i draws from stream i, is rendered as row i, and is updated on its own: it ends as it would have ended alone, to
the last bit where the model's kernels treat every row alike, else to their rounding.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..echo import shown
from ..randomness import Rng
from ..validation import check_count
from .base import Canvas, Config, Generator, Moved


def _layout(rows: Sequence[Tensor]) -> torch.memory_format:
    """In which order the rows lie in memory: colours innermost, as a neural image renders, or as torch's default."""
    inner = all(row.ndim == 4 and row.is_contiguous(memory_format=torch.channels_last) for row in rows)
    return torch.channels_last if inner else torch.contiguous_format


def _together(rows: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(rows)).contiguous(memory_format=_layout(rows))  # kernels round as they would for one row


def _stream(rng: Rng, row: int) -> Rng:
    return rng[row] if isinstance(rng, Sequence) else rng


MOST = 1024
"""Most members of a batch."""


def kind_and_config(member: object) -> tuple[str, Config]:
    """The two parts of a member as `Batch.config` gives it.

    Raises:
        ValueError: it has not these two.
    """
    match member:
        case [str(kind), dict(config)] if all(isinstance(name, str) for name in config):
            return kind, config
    raise ValueError(
        f"members: got {shown(member)}; allowed are generators, or pairs [kind, config] as config gives them. Pass a "
        "list of them."
    )


def _listed(members: object) -> list[Any]:
    """The members one by one."""
    if not isinstance(members, (Sequence, nn.ModuleList)) or isinstance(members, str):
        raise ValueError(
            f"members: got {shown(members)}; allowed are generators, or pairs [kind, config] as config gives them. "
            "Pass a list of them."
        )
    return list(members)


class Batch(Generator):
    """A batch of generators.

    Args:
        members: generators that are drawn on one canvas, or their ``[kind, config]``, as `config` gives them. One that
            stands twice becomes two, that start alike.

    Raises:
        ValueError: for no member, more than `MOST`, or members that are not drawn on the same canvas.
    """

    def __init__(self, members: Sequence[Generator] | Sequence[Sequence[Any]]) -> None:
        from .registry import make_generator

        super().__init__()
        listed, made = _listed(members), []
        check_count("members", len(listed), minimum=0, maximum=MOST)
        for m in listed:
            if isinstance(m, Generator):
                member = m
            else:
                kind, config = kind_and_config(m)
                member = make_generator(kind, **config)
            made.append(copy.deepcopy(member) if any(member is other for other in made) else member)
        if not made:
            raise ValueError("members: got none; allowed is at least one generator. Pass some.")
        if len({member.canvas for member in made}) > 1 or any(member.rows != 1 for member in made):
            raise ValueError(
                f"members: are drawn on {sorted({str(member.canvas) for member in made})}; allowed are single "
                "generators on one canvas. Make all of them with for_size of the same size."
            )
        for member in made:
            if member.views != 1:
                raise ValueError(
                    f"views: got {member.views} of a {member.kind} that stands in a batch; allowed is 1 there. Set "
                    "views to 1, or run them one by one."
                )
        self.members = nn.ModuleList(made)

    @property
    def kind(self) -> str:
        """ "batch"."""
        return "batch"

    @property
    def canvas(self) -> Canvas:
        """The members'."""
        return self[0].canvas

    @property
    def rows(self) -> int:
        """How many members there are."""
        return len(self.members)

    def __getitem__(self, row: int) -> Generator:
        member = self.members[row]
        assert isinstance(member, Generator)  # noqa: S101 - by construction
        return member

    @property
    def windows(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] - of its members, not of the class
        """Whether all members honour them."""
        return all(self[i].windows for i in range(self.rows))

    @property
    def universal(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] - of its members, not of the class
        """Whether all members are."""
        return all(self[i].universal for i in range(self.rows))

    @property
    def independent(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride] - of its members, not of the class
        """Whether all members are."""
        return all(self[i].independent for i in range(self.rows))

    def config(self) -> Config:
        """Kind and config of every member."""
        return {"members": [[self[i].kind, self[i].config()] for i in range(self.rows)]}

    def render(self, view: Sequence[Any]) -> Tensor:
        """One row a member, (B, C, H, W), each of its own view."""
        return self.renderer(view)()

    def renderer(self, view: Sequence[Any]) -> Callable[[], Tensor]:
        """The members' own, together."""
        renderers = [self[i].renderer(part) for i, part in enumerate(view)]
        return lambda: _together([renderer() for renderer in renderers])

    def view(self, step: int, steps: int, rng: Rng) -> list[Any]:
        """A view for each member, from its own stream."""
        return [self[i].view(step, steps, _stream(rng, i)) for i in range(self.rows)]

    def frame(self, height: int, width: int) -> list[Any]:
        """The same for each member."""
        return [self[i].frame(height, width) for i in range(self.rows)]

    def groups(self) -> dict[str, int | None]:
        """Each member's parameters, and its row."""
        return {f"members.{i}.": i for i in range(self.rows)}

    def penalty(self, view: Sequence[Any]) -> Tensor | None:
        """The sum of the members'."""
        found = [self[i].penalty(part) for i, part in enumerate(view)]
        given = [one for one in found if one is not None]
        return torch.stack(given).sum() if given else None

    def tend(self, moved: Moved, rng: Rng) -> dict[str, Tensor]:
        """Each member's own, with its row and from its own stream."""
        rows: dict[str, Tensor] = {}
        for i in range(self.rows):
            own = moved.pulled[i : i + 1], moved.target[i : i + 1]
            found = self[i].tend(Moved(moved.step, moved.steps, moved.view[i], *own), _stream(rng, i))
            rows |= {f"members.{i}.{name}": source for name, source in found.items()}
        return rows

    def __repr__(self) -> str:
        return f"Batch({self.rows} x {self[0].kind}, {json.dumps(self[0].config())})"
