from .base import Canvas as Canvas
from .base import Generator as Generator
from .base import Space as Space
from .base import View as View
from .batch import Batch as Batch
from .files import load_generator as load_generator
from .files import save_generator as save_generator
from .fit import Fitted as Fitted
from .fit import fit as fit
from .latent import Latent as Latent
from .neural_image import FIELDS as FIELDS
from .neural_image import NeuralImage as NeuralImage
from .picture import cover as cover
from .pixel_art import PixelArt as PixelArt
from .pixel_art import palette_from as palette_from
from .pixels import Pixels as Pixels
from .points import Points as Points
from .registry import (
    GENERATORS as GENERATORS,
)
from .registry import (
    generator_for_size as generator_for_size,
)
from .registry import (
    make_generator as make_generator,
)
from .sticker import Sticker as Sticker
from .tiles import render_part as render_part
from .tiles import render_tiles as render_tiles
from .tiles import tiles_of as tiles_of
from .vector.drawing import Drawing as Drawing
from .vector.shapes import Vector as Vector
from .vector.svg_read import read_svg as read_svg
from .volume.camera import Camera as Camera
from .volume.volume import Volume as Volume
