"""Pictures that exist, changed: `edit` by words, `inpaint` a hole, `restore` from less than the picture.

All run on any `Model`; none needs a gradient through the network, but for the solvers that say so.
"""

from __future__ import annotations

from .editing import edit
from .inpainting import inpaint
from .restoration import restore
from .result import Manipulated

__all__ = ["Manipulated", "edit", "inpaint", "restore"]
