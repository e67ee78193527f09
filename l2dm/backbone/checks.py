"""What a base's configurations alone tell against it: asked before anything large is downloaded or read."""

from __future__ import annotations

import importlib.util
import inspect
from typing import TYPE_CHECKING

import diffusers
from diffusers import FlowMatchEulerDiscreteScheduler

from ..errors import BaseModelError, first_line

if TYPE_CHECKING:
    from .source import Source

PREDICTIONS = ("epsilon", "v_prediction", "sample")
_OTHER_SAMPLER = (
    "or put another of diffusers' samplers in its folder scheduler, such as DPMSolverMultistepScheduler"
)


def check(source: Source) -> None:
    """Raises BaseModelError when ``source`` is no model that can be learnt from."""
    source.family.check(source)
    for part in source.family.networks:
        if how := source.settings_of(part).get("quantization_config"):
            _check_quantized(source, part, how.get("quant_method", "unnamed"))
    kind, settings = scheduler_class(source), source.settings_of("scheduler")
    if source.family.flow:
        flows = settings.get("prediction_type") == "flow_prediction" and settings.get("use_flow_sigmas")
        if kind is not FlowMatchEulerDiscreteScheduler and not flows:
            raise BaseModelError(
                f"{source.said}: its sampler is a {kind.__name__} without flows; l2dm learns flow matching "
                "of FlowMatchEulerDiscreteScheduler and "
                "of solvers with use_flow_sigmas and prediction_type flow_prediction: put one of these in "
                "its folder scheduler"
            )
        return
    prediction = settings.get("prediction_type", "epsilon")
    discrete = "beta_schedule" in inspect.signature(kind).parameters and not settings.get("use_flow_sigmas")
    if not discrete or prediction not in PREDICTIONS:
        how = f"prediction_type {prediction}" if discrete else "no noise by betas, as flow matching has"
        raise BaseModelError(
            f"{source.said}: its sampler {kind.__name__} has {how}; l2dm learns {', '.join(PREDICTIONS)} "
            "over betas: "
            f"{_OTHER_SAMPLER[3:]} if the denoiser was trained so"
        )
    try:
        kind.from_config(settings)
    except ImportError as error:
        raise BaseModelError(
            f"{source.said}: its sampler {kind.__name__}: {first_line(error)}; install that, {_OTHER_SAMPLER}"
        ) from None
    except Exception as error:
        raise BaseModelError(
            f"{source.said}: {source.config_file('scheduler')}: {first_line(error)}"
        ) from error


def _check_quantized(source: Source, part: str, method: str) -> None:
    if part != source.family.denoiser or method != "torchao":
        raise BaseModelError(
            f"{source.said}: its {part} is quantized ({method}), and l2dm learns and draws beside a denoiser "
            "that torchao quantized, else beside "
            "weights in float32, bfloat16 or float16: give the base in one of these"
        )
    if importlib.util.find_spec("torchao") is None:
        raise BaseModelError(
            f"{source.said}: its {part} is quantized by torchao, which is not installed: pip install torchao"
        )


def scheduler_class(source: Source) -> type:
    name = source.class_of("scheduler")
    kind = getattr(diffusers, name, None)
    if not inspect.isclass(kind):
        raise BaseModelError(
            f"{source.said}: its sampler {name} is none of diffusers' {diffusers.__version__}; "
            f"{_OTHER_SAMPLER[3:]}"
        )
    if lacking := [library for library in getattr(kind, "_backends", ()) if library != "torch"]:
        raise BaseModelError(
            f"{source.said}: its sampler {name} needs {' and '.join(lacking)}: pip install "
            f"{' '.join(lacking)}, {_OTHER_SAMPLER}"
        )
    return kind
