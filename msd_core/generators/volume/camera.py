"""Cameras around an object, the rays of their pixels, and what a side of the object is called.

    position = centre + d (cos phi sin theta, sin phi, cos phi cos theta),   looking at the centre

Right-handed, Y up; the object's front faces +Z, as in glTF. Yaw theta = 0 is the front, 90 degrees is seen from +X,
which is on the right of the front picture; pitch phi is upward. The field of view is vertical. Rays go through the
pixel centres, row 0 is at the top.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from ...echo import shown
from ...validation import check_number
from ..base import View, pixel_centres

RADIUS = 1.0
"""Of the ball around the origin that holds the object: the unit of length."""
OVERHEAD = 60.0
"""Degrees of pitch from which a view is from overhead."""

Vector3 = tuple[float, float, float]


@dataclass(frozen=True)
class Camera(View):
    """A view of an object in the unit ball.

    Attributes:
        yaw, pitch: where it stands, in degrees.
        distance: from its centre, in radii of the ball.
        fov: vertical field of view of the whole frame, in degrees.
        centre: what it looks at, and turns around.
        rays: pixels of the longer side that are traced, the picture then being enlarged; None is all of them.
        jitter: seed of where along each ray it is sampled; None is in the middle of each piece.
        ground: RGB of what is behind the object; None is the object's own.
        thrifty: leave out samples that nothing is seen of.

    Raises:
        ValueError: for a number out of range, or a camera inside the ball.
    """

    yaw: float = 0.0
    pitch: float = 0.0
    distance: float = 2.2
    fov: float = 40.0
    centre: Vector3 = (0.0, 0.0, 0.0)
    rays: int | None = None
    jitter: int | None = None
    ground: Vector3 | None = None
    thrifty: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_number("yaw", self.yaw, "Use degrees: 0 is the front, 90 the right side.")
        check_number("pitch", self.pitch, "Use degrees: 0 is level, 90 from above.", low=-90, high=90)
        check_number("fov", self.fov, "Usual are 20 to 70 degrees.", low=1, high=150)
        check_number("distance", self.distance, "Usual are 2 to 4 radii.", low=0)
        if len(self.centre) != 3 or not all(map(math.isfinite, self.centre)):
            raise ValueError(f"centre: got {shown(self.centre)}; allowed are three finite numbers. Use (0, 0, 0).")
        if math.dist(self.position, (0, 0, 0)) <= RADIUS:
            raise ValueError(
                f"distance: got {self.distance:g}, which puts the camera inside the object's ball; allowed is outside "
                "of radius 1. Use 2.2, and a smaller shift of the centre."
            )

    @property
    def position(self) -> Vector3:
        """Where it stands."""
        x, y, z = (c + self.distance * part for c, part in zip(self.centre, self.axes[2], strict=True))
        return x, y, z

    @property
    def axes(self) -> tuple[Vector3, Vector3, Vector3]:
        """Unit vectors to its right, upward, and backward to where it stands from what it looks at."""
        theta, phi = math.radians(self.yaw), math.radians(self.pitch)
        sin, cos, up, flat = math.sin(theta), math.cos(theta), math.sin(phi), math.cos(phi)
        return (cos, 0.0, -sin), (-up * sin, flat, -up * cos), (flat * sin, up, flat * cos)

    def cast(self, like: Tensor, start: int = 0, stop: int | None = None) -> tuple[Tensor, Tensor]:
        """The rays of the window's pixels from one number up to another, row by row.

        Returns:
            Their common origin (3,) and unit directions (stop - start, 3), of the type and device of ``like``.
        """
        place = pixel_centres(self.height, self.width, like, window=self.window, start=start, stop=stop)
        right, up, back = (like.new_tensor(axis) for axis in self.axes)
        tangent = math.tan(math.radians(self.fov) / 2)
        across = (2 * place[:, :1] - 1) * tangent * self.width / self.height
        along = (1 - 2 * place[:, 1:]) * tangent
        direction = across * right + along * up - back
        return like.new_tensor(self.position), direction / direction.norm(dim=1, keepdim=True)


def turned(yaw: float) -> float:
    """``yaw`` in degrees, from -180 up to 180."""
    return (yaw + 180.0) % 360.0 - 180.0


SIDE_WORDS = {
    "front": {"view": "front view", "side": "front view"},
    "right": {"view": "right side view", "side": "side view"},
    "back": {"view": "back view", "side": "back view"},
    "left": {"view": "left side view", "side": "side view"},
    "overhead": {"view": "overhead view", "side": "overhead view"},
}
"""What a prompt can call each side: ``view`` in five words, ``side`` without left and right."""


def side_of(camera: Camera) -> str:
    """The side that a camera sees, one of `SIDE_WORDS`."""
    yaw = turned(camera.yaw)
    if camera.pitch > OVERHEAD:
        return "overhead"
    if abs(yaw) <= 45.0:
        return "front"
    if abs(yaw) >= 135.0:
        return "back"
    return "right" if yaw > 0 else "left"


def side_words(camera: Camera) -> dict[str, str]:
    """The words of the side that a camera sees."""
    return dict(SIDE_WORDS[side_of(camera)])


CENTRES = {"front": 0.0, "right": 90.0, "back": 180.0, "left": -90.0}
"""Yaw of the middle of each side, in degrees."""


def side_weights(camera: Camera, blend: float = 0.0) -> dict[str, float]:
    """Shares of "front", "right", "back", "left" and "overhead" in what a camera sees, those above 0; they sum to 1.

    Args:
        camera: a camera.
        blend: degrees around the border between two sides over which one goes over into the other, linearly; with 0
            each camera sees a single side, `side_of` it.

    Raises:
        ValueError: ``blend`` is not within 0 to 90.
    """
    check_number("blend", blend, "30 is usual.", low=0, high=90)
    if blend == 0:
        return {side_of(camera): 1.0}
    over = _past(camera.pitch - OVERHEAD, blend)
    around = {name: _past(45.0 - abs(turned(camera.yaw - middle)), blend) for name, middle in CENTRES.items()}
    shares = {name: share * (1 - over) for name, share in around.items()} | {"overhead": over}
    return {name: share for name, share in shares.items() if share > 0}


def _past(degrees: float, blend: float) -> float:
    """0 before a border, 1 behind it, and straight in between, over ``blend`` degrees."""
    return min(1.0, max(0.0, degrees / blend + 0.5))
