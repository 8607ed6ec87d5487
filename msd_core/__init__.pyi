from typing import Any

from .bandwidth import (
    BANDWIDTHS as BANDWIDTHS,
)
from .bandwidth import (
    Bandwidths as Bandwidths,
)
from .bandwidth import (
    Cosine as Cosine,
)
from .bandwidth import (
    Exponential as Exponential,
)
from .bandwidth import (
    Karras as Karras,
)
from .bandwidth import (
    Linear as Linear,
)
from .bandwidth import (
    Listed as Listed,
)
from .bandwidth import (
    Piecewise as Piecewise,
)
from .bandwidth import (
    bandwidth_schedule as bandwidth_schedule,
)
from .bandwidth import (
    check_bandwidths as check_bandwidths,
)
from .companions import Source as Source
from .companions import with_companions as with_companions
from .denoiser import (
    Denoiser as Denoiser,
)
from .denoiser import (
    cost as cost,
)
from .denoiser import (
    differentiable as differentiable,
)
from .denoiser import (
    eps as eps,
)
from .denoiser import (
    expand_sigma as expand_sigma,
)
from .denoiser import (
    score as score,
)
from .denoiser import (
    sigma_range as sigma_range,
)
from .denoiser import (
    with_levels as with_levels,
)
from .densities import GaussianMixture as GaussianMixture
from .densities import IdealDenoiser as IdealDenoiser
from .distil import distil as distil
from .distil import run as run
from .distillation import METHODS as METHODS
from .distillation import MSD as MSD
from .distillation import SDI as SDI
from .distillation import SDS as SDS
from .distillation import Method as Method
from .dreamsampler import Denoised as Denoised
from .dreamsampler import Edited as Edited
from .dreamsampler import dream_sample as dream_sample
from .finite import NonFiniteError as NonFiniteError
from .generators import (
    GENERATORS as GENERATORS,
)
from .generators import (
    Batch as Batch,
)
from .generators import (
    Camera as Camera,
)
from .generators import (
    Canvas as Canvas,
)
from .generators import (
    Generator as Generator,
)
from .generators import (
    Latent as Latent,
)
from .generators import (
    NeuralImage as NeuralImage,
)
from .generators import (
    PixelArt as PixelArt,
)
from .generators import (
    Pixels as Pixels,
)
from .generators import (
    Points as Points,
)
from .generators import (
    Sticker as Sticker,
)
from .generators import (
    Vector as Vector,
)
from .generators import (
    View as View,
)
from .generators import (
    Volume as Volume,
)
from .generators import (
    fit as fit,
)
from .generators import (
    generator_for_size as generator_for_size,
)
from .generators import (
    load_generator as load_generator,
)
from .generators import (
    make_generator as make_generator,
)
from .generators import (
    palette_from as palette_from,
)
from .generators import (
    read_svg as read_svg,
)
from .generators import (
    save_generator as save_generator,
)
from .guidance import Guided as Guided
from .guidance import GuidedDenoiser as GuidedDenoiser
from .guidance import guide as guide
from .guidance import guided as guided
from .info import Info as Info
from .info import measure as measure
from .inversion import (
    INVERSIONS as INVERSIONS,
)
from .inversion import (
    AncestralStep as AncestralStep,
)
from .inversion import (
    ExplicitStep as ExplicitStep,
)
from .inversion import (
    Inversion as Inversion,
)
from .inversion import (
    Trajectory as Trajectory,
)
from .inversion import (
    ddim_invert as ddim_invert,
)
from .inversion import (
    invert as invert,
)
from .inversion.direct import (
    Direct as Direct,
)
from .inversion.flow import (
    flow_sigmas as flow_sigmas,
)
from .inversion.implicit import (
    ImplicitStep as ImplicitStep,
)
from .inversion.negative_prompt import (
    negative_prompt as negative_prompt,
)
from .inversion.resample import (
    resample as resample,
)
from .inversion.resample import (
    resample_steps as resample_steps,
)
from .inversion.resample import (
    round_trip_psnr as round_trip_psnr,
)
from .inversion.samplers import (
    inversion_for as inversion_for,
)
from .manipulation import Manipulated as Manipulated
from .manipulation import edit as edit
from .manipulation import inpaint as inpaint
from .manipulation import restore as restore
from .mean_shift import (
    ESTIMATORS as ESTIMATORS,
)
from .mean_shift import (
    Estimator as Estimator,
)
from .mean_shift import (
    mean_shift as mean_shift,
)
from .mean_shift import (
    product_sigmas as product_sigmas,
)
from .mean_shift.exact import Exact as Exact
from .mean_shift.naive import Naive as Naive
from .mean_shift.one_step import OneStep as OneStep
from .mean_shift.split import Split as Split
from .measurement import MEASUREMENTS as MEASUREMENTS
from .measurement import Measurement as Measurement
from .measurement import Observation as Observation
from .measurement import observe as observe
from .model import MODELS as MODELS
from .model import Model as Model
from .model import load_model as load_model
from .named import preset_named as preset_named
from .optimize import ByView as ByView
from .optimize import optimize as optimize
from .optimize import start as start
from .optimizers import OptimizerConfig as OptimizerConfig
from .parametrization import EDMDenoiser as EDMDenoiser
from .parametrization import EpsDenoiser as EpsDenoiser
from .parametrization import FlowDenoiser as FlowDenoiser
from .parametrization import VDenoiser as VDenoiser
from .pipelines.model import PipelineModel as PipelineModel
from .pipelines.model import load_pipeline as load_pipeline
from .posterior import GAINS as GAINS
from .posterior import INVERSE_SOLVERS as INVERSE_SOLVERS
from .posterior import RESTORERS as RESTORERS
from .posterior import Gain as Gain
from .posterior import PosteriorDenoiser as PosteriorDenoiser
from .posterior import posterior_sample as posterior_sample
from .posterior import posterior_steps as posterior_steps
from .preset import Preset as Preset
from .preset import preset_of as preset_of
from .product import ProductDenoiser as ProductDenoiser
from .product import product_denoiser as product_denoiser
from .pull import ImagePull as ImagePull
from .pull import LatentPull as LatentPull
from .pull import Masked as Masked
from .pull import Measured as Measured
from .pull import Pull as Pull
from .randomness import (
    GivenNoise as GivenNoise,
)
from .randomness import (
    Rng as Rng,
)
from .randomness import (
    draw_normal as draw_normal,
)
from .randomness import (
    draw_uniform as draw_uniform,
)
from .randomness import (
    seeded as seeded,
)
from .sampling import (
    SOLVERS as SOLVERS,
)
from .sampling import (
    ddim_sample as ddim_sample,
)
from .sampling import (
    ddim_steps as ddim_steps,
)
from .sampling import (
    heun_steps as heun_steps,
)
from .schedule import (
    SIGMA_SCHEDULES as SIGMA_SCHEDULES,
)
from .schedule import (
    DiscreteSchedule as DiscreteSchedule,
)
from .schedule import (
    sd15_schedule as sd15_schedule,
)
from .schedule import (
    sigma_schedule as sigma_schedule,
)
from .settings import (
    check_settings as check_settings,
)
from .settings import (
    setting as setting,
)
from .settings import (
    settings_of as settings_of,
)
from .settings import (
    settings_table as settings_table,
)
from .state import State as State
from .state import load_state as load_state
from .state import save_state as save_state
from .symptoms import warning_of as warning_of
from .units import Units as Units
from .units import units_of as units_of
from .warm import Sampled as Sampled
from .warm import sample as sample

def register_method(name: str, method: type) -> None: ...
def register_estimator(name: str, estimator: type) -> None: ...
def register_generator(name: str, generator: Any) -> None: ...  # noqa: ANN401
