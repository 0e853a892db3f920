"""Detectors by name, and their initial weights."""

from __future__ import annotations

import difflib
import functools
import logging
import re
from pathlib import Path
from typing import Any

import yaml

from visionops.errors import TrainingError
from visionops.home import visionops_home
from visionops.tasks.detection.library import is_offline, prepare_library

__all__ = ["check_detector", "detector_names", "find_weights"]

_HEADS = ("Detect", "v10Detect")
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 70 files take 4 s in pure Python on a busy machine
_RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.4.0"


@functools.cache
def detector_names() -> tuple[str, ...]:
    """Return every detector that the installed Ultralytics can build: yolov8n, yolov8s, …, yolo26x."""
    prepare_library()
    from ultralytics.utils import ROOT

    names: list[str] = []
    for file in sorted((ROOT / "cfg" / "models").glob("*/*.yaml")):
        described = yaml.load(file.read_text(encoding="utf-8"), Loader=_LOADER)  # noqa: S506 - a safe one
        if described["head"][-1][2] not in _HEADS:
            continue
        family, rest = re.fullmatch(r"(yolov?\d+)(.*)", file.stem).groups()  # type: ignore[union-attr]
        # yolov9c.yaml and yolov10n.yaml have a single scale, which is in their names.
        scales = described.get("scales", ("",)) if not rest or rest.startswith("-") else ("",)
        names += [f"{family}{scale}{rest}" for scale in scales]
    return tuple(names)


def check_detector(name: str) -> None:
    """Refuse a name that Ultralytics does not know.

    Raises:
        TrainingError: The name is unknown; the message has the nearest names.
    """
    names = detector_names()
    if name in names:
        return
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(n for n in names if n[-1] == 'n')}, …"
    raise TrainingError(f"training.model: unknown detector {name!r}; {hint}")


def find_weights(name: str, weights: str) -> Path | None:
    """Return the checkpoint that ``training.weights`` refers to.

    Args:
        name: Name of the detector.
        weights: ``none``, ``auto``, a ``.pt`` file, or a folder that holds ``<name>.pt``.

    Returns:
        Checkpoint that matches the detector; None to train its architecture from scratch.

    Raises:
        TrainingError: The file does not exist, cannot be read, or belongs to another detector.
    """
    if weights == "none":
        return None
    path = _by_name(name) if weights == "auto" else _given(name, Path(weights).expanduser())
    if path is not None:
        _check_fit(name, path)
    return path


def _given(name: str, path: Path) -> Path:
    if path.is_dir():
        file = path / f"{name}.pt"
        if not file.is_file():
            there = ", ".join(sorted(p.name for p in path.glob("*.pt"))) or "no .pt file"
            raise TrainingError(f"training.weights: {path} does not contain {name}.pt (it contains {there})")
        return file
    if not path.is_file():
        raise TrainingError(
            f"training.weights: {path} does not exist; set a .pt file, a folder with {name}.pt, auto or none"
        )
    return path


def _by_name(name: str) -> Path | None:
    """Return weights from our own folder, or else fetch them into it; return None with a warning where that fails."""
    cached = visionops_home() / "weights" / f"{name}.pt"
    if cached.is_file() or _fetch(name, cached):
        return cached
    logging.getLogger("visionops.training").warning(
        "training.weights: no pretrained weights of %s could be fetched; training starts from scratch and needs more "
        "epochs (put %s into %s, or set training.weights to none to be rid of this line)",
        name,
        cached.name,
        cached.parent,
    )
    return None


def _fetch(name: str, target: Path) -> bool:
    from ultralytics.utils import downloads

    # The anchor-free re-trainings of v3 and v5 are published with a "u".
    published = next((n for n in (f"{name}.pt", f"{name}u.pt") if n in downloads.GITHUB_ASSETS_NAMES), None)
    if published is None or is_offline():
        return False
    url = f"{_RELEASE}/{published}"
    partial = target.with_suffix(".part")
    try:
        if not downloads.is_url(url, check=True):
            return False
        target.parent.mkdir(parents=True, exist_ok=True)
        downloads.safe_download(url, file=partial, retry=1, min_bytes=100_000, progress=False, unzip=False)
        partial.replace(target)
    except (OSError, RuntimeError, ConnectionError) as error:
        logging.getLogger("visionops.training").info("%s: not fetched (%s)", url, error)
        partial.unlink(missing_ok=True)
        return False
    return True


def _check_fit(name: str, path: Path) -> None:
    """Check that weights fit the detector: Ultralytics loads what fits and does not report the rest."""
    from ultralytics.nn.tasks import DetectionModel

    model = _load(path)
    if getattr(model, "task", "detect") != "detect":
        raise TrainingError(f"training.weights: {path} is a model for {model.task!r}, not a detector")
    wanted = DetectionModel(f"{name}.yaml", nc=max(len(model.names), 1), verbose=False).state_dict()
    given = model.state_dict()
    fitting = sum(key in given and given[key].shape == value.shape for key, value in wanted.items())
    if fitting < 0.5 * len(wanted):
        is_of = Path(str(model.yaml.get("yaml_file", "another architecture"))).stem
        raise TrainingError(f"training.weights: {path} is for {is_of}, not for {name}; set training.model to match")


def _load(path: Path) -> Any:
    from ultralytics.nn.tasks import load_checkpoint

    try:
        return load_checkpoint(str(path.resolve()))[0]
    except Exception as error:  # unpickling files from elsewhere can raise any error
        raise TrainingError(
            f"training.weights: {path} is not an Ultralytics checkpoint ({type(error).__name__}); fetch it again"
        ) from error
