"""An object in space: a field of density and colour in the unit ball, rendered from cameras around it.

    x_v = colour_v + (1 - opacity_v) ground,   one picture for each of V cameras an iteration

(DreamFusion, Poole et al. 2022; Mean-Shift Distillation, section 4.4 and Fig. 5.) No picture of the object exists
anywhere: each camera's is pulled towards what the model wants to see from there, and the field is what they agree on.
The cameras of an iteration are spread evenly in yaw. A prompt says which side is seen: ``{view}`` in it becomes "front
view", "right side view", ..., ``{side}`` the same without telling left from right. With a model that heeds neither, an
object can only be made that looks the same from all sides, or one with a face on each of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ...echo import shown
from ...randomness import Rng, draw_uniform, seeded
from ...settings import check_settings, setting
from ...validation import check_choice, check_count, check_seed
from ..base import SIDE, Canvas, Config, Generator, Moved, View
from .camera import RADIUS, SIDE_WORDS, Camera, Vector3, side_weights, side_words
from .fields import FIELDS
from .ground import GROUNDS, SHARE, Sky, first_ground, solved
from .march import March, Rays, Traced
from .occupancy import CELLS, EVERY, looked, lookup, occupied, unseen

FULL = 0.1
"""Share of the iterations in which every sample is differentiated, also with two passes: what is left out never
grows."""


@dataclass(frozen=True)
class VolumeSettings:
    """What an object is made of, and how it is looked at."""

    grid: str = setting(
        "dense", "of the field: dense is about twice as fast, hash holds finer detail", choices=tuple(FIELDS)
    )
    views: int = setting(4, "cameras an iteration: more agree better, and cost as much more", low=1, high=64)
    rays: int = setting(
        64, "pixels of a view's longer side that are traced in an iteration; the picture is enlarged", low=1, high=SIDE
    )
    ray_samples: int = setting(32, "samples on a ray: finer surfaces, and slower", low=1, high=1024, usual=(16, 256))
    background: str = setting(
        "solved",
        "what is behind the object; solved: the colour that the model wants there; random: another in each iteration; "
        "sky: a learned one, which may turn to fog",
        choices=GROUNDS,
    )
    lowest: float = setting(-10.0, "pitch of the lowest camera, in degrees", low=-90, high=90)
    highest: float = setting(30.0, "pitch of the highest camera, in degrees", low=-90, high=90)
    distance: float = setting(
        2.2, "of the cameras from the centre, in radii of the object's ball", above=RADIUS, high=20
    )
    fov: float = setting(40.0, "vertical field of view, in degrees", low=5, high=120, usual=(15, 90))
    vary: float = setting(
        0.0, "share by which distance and field of view are varied by chance", low=0, high=0.9, expert=True
    )
    shift: float = setting(
        0.0, "radii by which the centre is moved by chance, at most", low=0, high=1, usual=(0, 0.5), expert=True
    )
    blend: float = setting(
        0.0,
        "degrees over which {view} and {side} of one side go over into those of the next, where the model is asked "
        "under both, at twice the cost; 0: each view is of one side",
        low=0,
        high=90,
        usual=(0, 60),
        expert=True,
    )
    blob: float = setting(
        10.0, "density in the middle that it starts from; with 0 it starts as thin fog", low=0, high=100, expert=True
    )
    passes: int = setting(
        1,
        "2: samples that nothing is seen of are left out of the gradient, for memory's sake",
        low=1,
        high=2,
        expert=True,
    )
    opacity: float = setting(
        0.0, "penalty on opacity, sqrt(o^2 + .01): thinner, fewer floaters", low=0, usual=(0, 10), expert=True
    )
    entropy: float = setting(
        0.0, "penalty on half an opacity: harder edges; only late", low=0, usual=(0, 10), expert=True
    )
    thickness: float = setting(
        0.0, "penalty on the variance of the depth along a ray: less fog", low=0, usual=(0, 100), expert=True
    )
    orientation: float = setting(
        0.0, "penalty on surfaces that face away from the camera: less fog, slower", low=0, usual=(0, 10), expert=True
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.lowest > self.highest:
            raise ValueError(
                f"lowest: got {self.lowest:g} with highest {self.highest:g}; allowed is lowest <= highest. Swap them."
            )
        if self.distance * (1 - self.vary) - self.shift <= RADIUS:
            raise ValueError(
                f"distance: got {self.distance:g} with vary {self.vary:g} and shift {self.shift:g}, which can put "
                "a camera inside the object's ball; allowed is distance (1 - vary) - shift > 1. Raise it, or lower "
                "the others."
            )

    @property
    def penalised(self) -> bool:
        """Whether any penalty counts."""
        return any((self.opacity, self.entropy, self.thickness, self.orientation))


class Volume(Generator):
    """An object in space.

    Args:
        width, height: of the canvas, in pixels.
        seed: of the first parameters.
        options: as in `VolumeSettings`.

    Raises:
        ValueError: for an option that is unknown or out of range.
    """

    windows = True
    settings = VolumeSettings
    files = ("turntable.webp", "object.glb", "depth.png", "normal.png")
    label: ClassVar[str] = "3-D"
    recommended: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "msd": {"steps": 60, "inner_steps": 4, "solver_steps": 8, "walk_from": "mean"}
    }

    ground: Tensor
    density: Tensor

    def __init__(self, width: int, height: int, *, seed: int = 0, **options: Any) -> None:  # noqa: ANN401 - checked
        super().__init__()
        for name, side in (("width", width), ("height", height)):
            check_count(name, side, maximum=SIDE)
        check_seed("seed", seed)
        self.made = _checked(options)
        self.sizes: Config = {"width": width, "height": height, "seed": seed}
        rng = seeded(seed)
        self.field = FIELDS[self.made.grid](self.made.blob, rng)
        self.sky = Sky(rng) if self.made.background == "sky" else None
        self.register_buffer("ground", first_ground(self.made.background))
        self.register_buffer("density", unseen())
        self._traced: list[Traced] = []

    @classmethod
    def for_size(
        cls,
        width: int,
        height: int,
        *,
        seed: int = 0,
        channels: int = 4,
        cell: int = 8,
        **options: Any,  # noqa: ANN401 - checked by the constructor
    ) -> Volume:
        """An object for pictures of ``width`` x ``height`` pixels."""
        return cls(width, height, seed=seed, **options)

    @property
    def kind(self) -> str:
        """ "volume"."""
        return "volume"

    @property
    def canvas(self) -> Canvas:
        """Of the size at which it is optimised."""
        return Canvas(self.sizes["width"], self.sizes["height"])

    @property
    def views(self) -> int:
        """Cameras an iteration."""
        return self.made.views

    def config(self) -> Config:
        """Sizes, settings and seed."""
        return {**self.sizes, **asdict(self.made)}

    def frame(self, height: int, width: int) -> Camera:
        """From the front, at the middle of the cameras' pitches."""
        pitch = (self.made.lowest + self.made.highest) / 2
        return Camera(height, width, pitch=pitch, distance=self.made.distance, fov=self.made.fov)

    def orbit(
        self, height: int, width: int, count: int, *, yaw: float = 0.0, pitch: float | None = None
    ) -> list[Camera]:
        """``count`` cameras around it, evenly spaced, from ``yaw`` on over the right side, at the pitch of `frame`
        unless another is given, in degrees."""
        check_count("count", count)
        frame = self.frame(height, width)
        frame = replace(frame, pitch=frame.pitch if pitch is None else pitch)
        return [replace(frame, yaw=yaw + 360 * i / count) for i in range(count)]

    def view(self, step: int, steps: int, rng: Rng) -> list[Camera] | Camera:
        """Cameras by chance, spread evenly in yaw; a single one stands alone."""
        drawn = draw_uniform(self.views, rng, samples=10).T.tolist()
        thrifty = self.made.passes == 2 and step >= FULL * steps  # noqa: PLR2004 - passes
        made = [self._camera(i, numbers, thrifty) for i, numbers in enumerate(drawn)]
        return made if len(made) > 1 else made[0]

    def _camera(self, number: int, drawn: Sequence[float], thrifty: bool) -> Camera:
        """Camera ``number`` of an iteration, of ten numbers in [0, 1)."""
        made, (turn, rise, near, wide, x, y, z, *colour) = self.made, drawn
        centre = (made.shift * (2 * x - 1), made.shift * (2 * y - 1), made.shift * (2 * z - 1))
        long = 3**0.5  # a cube's corner is that far
        ground: Vector3 | None = (colour[0], colour[1], colour[2]) if made.background == "random" else None
        return replace(
            self.frame(self.canvas.height, self.canvas.width),
            yaw=360 * (number + turn) / self.views,
            pitch=made.lowest + (made.highest - made.lowest) * rise,
            distance=made.distance * (1 + made.vary * (2 * near - 1)),
            fov=made.fov * (1 + made.vary * (2 * wide - 1)),
            centre=tuple(c / long for c in centre),
            rays=made.rays,
            jitter=int(turn * 2**53),
            ground=ground,
            thrifty=thrifty,
        )

    def words(self, view: View) -> dict[str, str]:
        """``{view}``: the side that the camera sees; ``{side}``: the same, left and right alike."""
        return side_words(self._camera_of(view))

    def shares(self, view: View) -> list[tuple[float, dict[str, str]]]:
        """`words` of the sides that a view is of; two and more within ``blend`` degrees of a border."""
        weights = side_weights(self._camera_of(view), self.made.blend)
        return [(share, dict(SIDE_WORDS[side])) for side, share in weights.items()]

    def _camera_of(self, view: View) -> Camera:
        return view if isinstance(view, Camera) else self.frame(view.height, view.width)

    def render(self, view: View | Sequence[View]) -> Tensor:
        """RGB in [0, 1], (V, 3, height, width) of one view or V of one size, differentiable in the parameters."""
        return self.renderer(view)()

    def renderer(self, view: View | Sequence[View]) -> Callable[[], Tensor]:
        """`render` of one view, or of several, to be called while the parameters change."""
        cameras = [self._seen_from(one) for one in ([view] if isinstance(view, View) else view)]

        def draw() -> Tensor:
            pictures = self.look(cameras)
            self._traced = [traced for _, traced in pictures] if torch.is_grad_enabled() else []
            return torch.cat([picture for picture, _ in pictures])

        return draw

    def _seen_from(self, view: View) -> Camera:
        if isinstance(view, Camera):
            return view
        return replace(self.frame(view.height, view.width), window=view.window)

    def look(self, cameras: Sequence[Camera]) -> list[tuple[Tensor, Traced]]:
        """Picture (1, 3, height, width) from each camera, and what was seen along its rays."""
        cells = occupied(self.density)
        shares = len(cameras) * getattr(self.field, "weight", 1)
        return [self._look(camera, cells, shares) for camera in cameras]

    def _look(self, camera: Camera, cells: Tensor, shares: int) -> tuple[Tensor, Traced]:
        small = _traced_size(camera)
        rays = self._rays(small)
        wanted = torch.is_grad_enabled() and any(p.requires_grad for p in self.field.parameters())
        march = March(
            self.made.ray_samples,
            lambda place: lookup(cells, place),
            camera.thrifty,
            bool(self.made.orientation) and wanted,
            shares,
        )
        traced = march(self.field, rays, wanted)
        ground = self.ground if camera.ground is None else self.ground.new_tensor(camera.ground)
        behind = ground if self.sky is None else self.sky(rays.direction)
        _, _, height, width = small.box
        picture = (traced.colour + (1 - traced.opacity[:, None]) * behind).T.reshape(1, 3, height, width)
        if small is not camera:
            picture = F.interpolate(picture, camera.box[2:], mode="bilinear", align_corners=False)
        return picture, traced

    def _rays(self, camera: Camera) -> Rays:
        origin, direction = camera.cast(self.ground)
        offset = torch.full((len(direction),), 0.5)
        if camera.jitter is not None:
            offset = torch.rand(len(direction), generator=seeded(camera.jitter))
        return Rays(origin.expand_as(direction), direction, offset.to(self.ground))

    def penalty(self, view: View | Sequence[View]) -> Tensor | None:
        """The penalties of the settings, each a mean over the pixels of what was last rendered; None without any."""
        if not self.made.penalised or not self._traced:
            return None
        opacity = torch.cat([traced.opacity for traced in self._traced])
        sure = opacity.clamp(1e-3, 1 - 1e-3)
        entropy = -(sure * sure.log() + (1 - sure) * (1 - sure).log())
        thickness = torch.cat([traced.opacity.detach() * traced.thickness for traced in self._traced])
        inward = torch.cat([traced.inward for traced in self._traced])
        return (
            self.made.opacity * (opacity.square() + 0.01).sqrt().mean()
            + self.made.entropy * entropy.mean()
            + self.made.thickness * thickness.mean()
            + self.made.orientation * inward.mean()
        )

    def tend(self, moved: Moved, rng: Rng) -> Mapping[str, Tensor]:
        """Solve for the ground, and look now and then at which cells are empty."""
        if self.made.background == "solved":
            self.ground.copy_(self._solved(moved))
        if moved.step % EVERY == EVERY - 1:
            offset = draw_uniform(CELLS**3, rng, samples=3, dtype=torch.float32).T
            self.density.copy_(looked(self.density, self.field, offset))
        self._traced = []
        return {}

    def _solved(self, moved: Moved) -> Tensor:
        """The ground after an iteration."""
        if moved.target.ndim != 4 or moved.target.shape[1] != 3:  # noqa: PLR2004 - colours
            raise ValueError(
                f"background: got 'solved' with a pull of {shown(moved.target)}; allowed is one of pictures, which the "
                "ground is seen in. Set pull='image', or background='white'."
            )
        cameras = [self._seen_from(one) for one in ([moved.view] if isinstance(moved.view, View) else moved.view)]
        sizes = [_traced_size(camera).box[2:] for camera in cameras]
        pairs = zip(self._traced, sizes, strict=True)
        opacity = torch.stack([traced.opacity.detach().reshape(1, *size) for traced, size in pairs])
        return solved(self.ground, opacity, moved.target, SHARE if moved.step else 1.0)

    def begun(self, picture: Tensor) -> Generator:
        """A single picture says nothing of the other sides.

        Raises:
            ValueError: always.
        """
        raise ValueError(
            "start: got a picture for a volume, of which it shows one side; allowed is none there. Leave it out, or go "
            "on from a saved volume."
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_traced": []}  # what was rendered hangs on a graph, which cannot be copied

    def export(self, name: str) -> bytes:
        """turntable.webp: from all sides. object.glb: a mesh with colours. depth.png, normal.png: from the front."""
        from .files import exported

        check_choice("name", name, self.files)
        return exported(self, name)


def _checked(options: Mapping[str, Any]) -> VolumeSettings:
    """The settings of these names.

    Raises:
        ValueError: for one that is unknown.
    """
    known = VolumeSettings.__dataclass_fields__
    for name in options:
        check_choice("options", name, known)
    return VolumeSettings(**options)


def _traced_size(camera: Camera) -> Camera:
    """The camera with as many pixels as it traces; itself if that is all of them."""
    longest = max(camera.height, camera.width)
    if camera.rays is None or camera.rays >= longest or camera.window is not None:
        return camera
    height, width = (max(1, round(side * camera.rays / longest)) for side in (camera.height, camera.width))
    return replace(camera, height=height, width=width)
