"""docs/settings.md is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from msd_core.generators.registry import GENERATORS, options_of
from msd_core.posterior import INVERSE_SOLVERS
from msd_core.preset import Preset
from msd_core.settings import leaves, settings_of
from msd_core.settings_page import settings_page

pytestmark = pytest.mark.core
PAGE = Path(__file__).resolve().parents[2] / "docs" / "settings.md"


def test_the_page_is_made_from_the_fields() -> None:
    message = "make it again: python -m msd_core.settings_page > docs/settings.md"
    assert PAGE.read_text(encoding="utf-8") == settings_page(), message


def test_every_setting_is_on_it() -> None:
    shown = set(re.findall(r"^\| `(\w+)` \|", settings_page(), re.M))
    own = {flag for kind in GENERATORS for flag in options_of(kind)}
    own |= {entry.flag for kind in INVERSE_SOLVERS.values() for entry in settings_of(kind).values()}
    assert shown == {flag for flag, entry in leaves(Preset) if not entry.hidden} | own
