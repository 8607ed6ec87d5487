"""Progress bar, live preview and Cancel of a long node."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from comfy_execution.progress import get_progress_state
from PIL import Image
from torch import Tensor

PREVIEW_EVERY = 0.3  # seconds, at least
PREVIEW_SHARE = 0.1  # of the run's time, at most
PREVIEW_SIZE = 512
PREVIEW_LEAVES = 1.0  # seconds: the front end's 0.4 from when it is told, and some for the way


def to_pil(image: Tensor) -> Image.Image:
    """An image (1, 3, H, W) or (1, H, W, 3) in [0, 1] as a PIL picture."""
    pixels = image[0].movedim(0, -1) if image.shape[1] == 3 else image[0]
    return Image.fromarray((pixels.detach().float().clamp(0, 1) * 255).round().byte().cpu().numpy().astype(np.uint8))


def sheet(images: Tensor) -> Tensor:
    """Pictures (B, C, H, W) in rows, about square, as one (1, C, rows H, columns W), black where none is left."""
    count, channels, height, width = images.shape
    columns = math.ceil(math.sqrt(count * height / width))
    rows = math.ceil(count / columns)
    made = images.new_zeros(channels, rows * height, columns * width)
    for i, image in enumerate(images):
        top, left = i // columns * height, i % columns * width
        made[:, top : top + height, left : left + width] = image
    return made[None]


def to_image(picture: Image.Image) -> Tensor:
    """A PIL picture as IMAGE (1, H, W, 3) in [0, 1]."""
    return torch.from_numpy(np.asarray(picture.convert("RGB"), dtype=np.float32) / 255)[None]


def tell(node_id: str | None, text: str) -> None:
    """Show ``text`` in the node, where a server is running: only then its module is loaded."""
    server = sys.modules.get("server")
    instance = getattr(getattr(server, "PromptServer", None), "instance", None)
    if instance is not None and node_id is not None:
        instance.send_progress_text(text, node_id)


def withdraw_preview(node_id: str | None, output: Tensor) -> float:
    """Have the front end drop a node's live preview, which it would show in the place of its ``output`` (B, H, W, 3).

    It drops that of a node that begins anew: so it is told of all nodes without this one, and then of all. Where it is
    too busy to drop it in time, it has the output as the last preview.

    Returns:
        The `time.monotonic` at which the preview is gone: an output that is sent earlier stays behind it. Now, where no
        front end listens.
    """
    registry, now = get_progress_state(), time.monotonic()
    front_end = registry.handlers.get("webui")
    if node_id not in registry.nodes or front_end is None or not _listens(front_end):
        return now
    last = ("JPEG", to_pil(sheet(output.movedim(-1, 1))), PREVIEW_SIZE)
    registry.update_progress(node_id, registry.nodes[node_id]["value"], registry.nodes[node_id]["max"], last)
    entry = registry.nodes.pop(node_id)
    front_end.start_handler(node_id, entry, registry.prompt_id)
    registry.nodes[node_id] = entry
    front_end.start_handler(node_id, entry, registry.prompt_id)
    return now + PREVIEW_LEAVES


def _listens(front_end: object) -> bool:
    """Whether whoever queued the workflow has a connection: the page of a browser, and no request alone."""
    server = getattr(front_end, "server_instance", None)
    return getattr(server, "client_id", None) in getattr(server, "sockets", {})


def wait_until(moment: float) -> None:
    """Until that `time.monotonic`."""
    time.sleep(max(moment - time.monotonic(), 0))


class Progress:
    """One bar of `total` steps, `done` of them before. JPEG previews reach every client, whatever its settings.

    A preview (B, 3, H, W) in [0, 1] of several pictures is a sheet of them.
    """

    def __init__(self, total: int, done: int = 0) -> None:
        self.total = total
        self.done = done
        self.bar = comfy.utils.ProgressBar(total)
        self.next_preview = 0.0

    def update(self, picture: Callable[[], Tensor | None] | None = None) -> None:
        """One step is done; raises the host's interrupt after Cancel. `picture()` is drawn only when it is due."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        self.done += 1
        self.bar.update_absolute(self.done, self.total, self._preview(picture))

    def to(self, done: int) -> None:
        """As many steps are done: what was left of a part that ended early is, too."""
        self.done = done
        self.bar.update_absolute(self.done, self.total)

    def _preview(self, picture: Callable[[], Tensor | None] | None) -> tuple[str, Image.Image, int] | None:
        start = time.monotonic()
        if picture is None or start < self.next_preview:
            return None
        image = picture()
        end = time.monotonic()
        self.next_preview = end + max(PREVIEW_EVERY, (end - start) / PREVIEW_SHARE)
        return None if image is None else ("JPEG", to_pil(sheet(image)), PREVIEW_SIZE)
