"""Return images of a window and of its reference, and test images on which two versions differ."""

from __future__ import annotations

import base64
import io
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from launch.facts_runs import use_case_of
from launch.facts_zenml import plain, stack_client, stamp
from visionops.errors import DataError, RegistryError, VisionOpsError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from zenml.client import Client

    from visionops.data.shards import StoredDataset
    from visionops.inference.prediction import Prediction

__all__ = ["differences_of", "pictures_of"]

_SIZE = 160
"""Pixels of the longer side of a thumbnail."""
_MOST_COMPARED = 300
_COMPARING_SECONDS = 60.0
"""Time limit for comparing images, in seconds; the caller waits two minutes, and loading two models takes some."""
_SAME = 0.999
"""Agreement above which two answers count as the same."""
_LOOKED_AT = 50


def pictures_of(stack: str | None, name: str, file: str, most: int = 8) -> dict[str, Any]:
    """Return thumbnails of recent images of the champion, and of its validation images.

    Args:
        file: File of the use case, which sets the length of a window.
        most: Maximum number of thumbnails of each kind.

    Returns:
        ``window`` and ``reference``: ``pictures`` with ``name`` and ``data`` (a data URI), the total number of
        ``images``, and ``problem``, the reason if there are none.
    """
    with stack_client(stack) as client:
        return {
            "window": _attempted(_window, name, Path(file), most),
            "reference": _attempted(_val, client, name, most),
        }


def differences_of(stack: str | None, name: str, first: str, second: str, most: int = 24) -> dict[str, Any]:
    """Run two versions on the newest test split and return the images on which they differ, worst first.

    Args:
        first: One version.
        second: Other version.
        most: Maximum number of images to return.

    Raises:
        VisionOpsError: A version or the test split is not available.
    """
    with stack_client(stack) as client:
        import numpy as np

        from steps.context import active_registry, version_bundle
        from visionops.data.dataset import Split
        from visionops.inference.predictor import Predictor

        registry = active_registry()
        versions = [registry.by_version(name, number) for number in (first, second)]
        if None in versions:
            raise RegistryError(f"{name}: has no version {first if versions[0] is None else second}")
        test = _newest_dataset(client, name).only(Split.TEST).select_split(Split.TEST)
        # Shuffled, so that the images compared within the time limit are a fair sample.
        images = test.take(np.random.default_rng(0).permutation(test.num_images)[:_MOST_COMPARED])
        with version_bundle(versions[0]) as ours, version_bundle(versions[1]) as theirs:  # type: ignore[arg-type]
            predictors = Predictor(ours), Predictor(theirs)
            rows, end = [], time.monotonic() + _COMPARING_SECONDS
            for path in images.paths():
                if time.monotonic() > end:
                    break
                data = path.read_bytes()
                one, other = (predictor.predict(data, where=path.name) for predictor in predictors)
                rows.append((float(one.agreement(other)), path, _words(one), _words(other)))
    differing = sorted((row for row in rows if row[0] < _SAME), key=lambda row: (row[0], row[1].name))
    shown = [
        {"name": path.name, "agreement": plain(agreement), "first": one, "second": other, "data": _thumbnail(path)}
        for agreement, path, one, other in differing[:most]
    ]
    return {"test_images": test.num_images, "compared": len(rows), "differing": len(differing), "rows": shown}


def _words(prediction: Prediction) -> str:
    found = [f"{label} {confidence:.2f}" for label, confidence in prediction.labels()]
    return ", ".join(found[:6]) + (f" and {len(found) - 6} more" if len(found) > 6 else "") or "nothing"


def _attempted(work: Any, *arguments: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = work(*arguments)
    except VisionOpsError as error:
        return {"pictures": [], "images": 0, "problem": str(error)}
    return found


def _window(name: str, file: Path, most: int) -> dict[str, Any]:
    import pyarrow.compute as pc

    from steps.context import active_deployer, active_registry
    from visionops.config import load_config
    from visionops.monitoring.traffic import LogPlace

    config = load_config(file)
    champion = active_registry().champion(name)
    folder = active_deployer().prediction_log(name)
    begin = datetime.now(UTC) - timedelta(hours=config.monitoring.window_hours)
    log = LogPlace(folder, config.serving.prediction_log_store, name, champion.version).read(begin)
    kept = log.filter(pc.is_valid(log["image"])).sort_by("time")
    here = [
        row for row in kept.select(["image", "time", "request_id"]).to_pylist() if (folder / row["image"]).is_file()
    ]
    step = max(1, len(here) // most)
    shown = [
        {"name": row["request_id"], "at": stamp(row["time"]), "data": _thumbnail(folder / row["image"])}
        for row in here[::step][:most]
    ]
    problem = ""
    if not here and kept.num_rows:
        problem = f"{kept.num_rows} images are in a store, which is not read here"
    elif not here:
        problem = "no images of the window are stored; set serving.prediction_log_images to the share to store"
    return {"pictures": shown, "images": log.num_rows, "problem": problem}


def _val(client: Client, name: str, most: int) -> dict[str, Any]:
    from visionops.data.dataset import Split

    stored = _newest_dataset(client, name)
    val = stored.tables.select_split(Split.VAL)
    here = stored.fetch(val.take_evenly(most))
    shown = [{"name": path.name, "at": None, "data": _thumbnail(path)} for path in here.paths() if path.is_file()]
    problem = "" if shown else "the images of the val split are no longer on this machine"
    return {"pictures": shown, "images": val.num_images, "problem": problem}


def _newest_dataset(client: Client, name: str) -> StoredDataset:
    """Return the data set of the newest training of a use case.

    Raises:
        DataError: No training of it has stored one.
    """
    from materializers.dataset import DatasetMaterializer
    from visionops.data.shards import StoredDataset

    page = client.list_pipeline_runs(pipeline_name="training", sort_by="desc:created", size=_LOOKED_AT, hydrate=True)
    for run in page.items:
        step = run.steps.get("prepare") if use_case_of(run) == name else None
        if step and (versions := step.outputs.get("prepared")):
            found = DatasetMaterializer(versions[0].uri, client.active_stack.artifact_store).load(StoredDataset)
            assert isinstance(found, StoredDataset)
            return found
    raise DataError(f"{name}: none of the last {_LOOKED_AT} trainings has stored its data set; train again")


def _thumbnail(path: Path) -> str:
    """Return a small JPEG as a data URI."""
    from PIL import Image

    from visionops.inference.image import decode_image

    pixels: npt.NDArray[np.uint8] = decode_image(path.read_bytes(), where=path.name)
    small = Image.fromarray(pixels)
    small.thumbnail((_SIZE, _SIZE))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(out.getvalue()).decode()}"
