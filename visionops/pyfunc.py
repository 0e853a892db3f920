"""Wrap a bundle as an MLflow model that takes raw images and returns the task's predictions.

>>> model = mlflow.pyfunc.load_model("models:/steel@champion")
>>> model.predict([Path("part.jpg").read_bytes()])
[{'width': 200, 'height': 200, 'detections': [{'class_id': 2, 'class_name': 'patches', 'confidence': 0.9, ...}]}]
"""

from __future__ import annotations

import base64
import binascii
import warnings
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, get_args, get_origin

import mlflow.pyfunc
import numpy as np
import numpy.typing as npt
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.models.model import ModelInfo
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import Array, Map, Object, Property
from pydantic import BaseModel

import visionops
from visionops.errors import ImageError
from visionops.inference.bundle import ModelBundle
from visionops.inference.image import ImageProblem
from visionops.inference.predictor import Predictor
from visionops.inference.settings import EngineName
from visionops.inference.task import ServedTask
from visionops.inference.task_registry import requirement_of, served_task

__all__ = ["VisionOpsModel", "log_pyfunc"]

_COLUMN = "image"
_REQUIREMENTS = (
    "mlflow",
    "numpy",
    "onnxruntime",
    "opencv-python-headless",
    "openvino",
    "pandas",
    "pillow",
    "pydantic",
    "pyyaml",
)
_OWN_THRESHOLD = -1.0
"""Default for a threshold: MLflow's parameters are typed and cannot be absent, so below 0 the bundle's own applies."""


class VisionOpsModel:
    """A `Predictor` with MLflow's interface.

    The input is a list, an array (N, H, W, 3) or a data frame with the column ``image``; each image is encoded bytes,
    a base64 string of them, or an array of uint8 (H, W, 3), RGB.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def predict(self, model_input: Any, params: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """Return one result per image, in order: ``width``, ``height`` and the task's part, as the server returns them.

        Args:
            params: For a detector ``confidence`` and ``iou``; absent or below 0 the bundle's apply. None for labels.

        Raises:
            ImageError: An image cannot be used; the message has its index.
            OptionError: The task has no such parameter.
        """
        options = {key: value for key, value in (params or {}).items() if value >= 0}
        results = []
        for index, image in enumerate(_images(model_input)):
            where = f"image {index}"
            prediction = self.predictor.predict(_bytes_or_pixels(image, where), options, where=where)
            results.append({"width": prediction.width, "height": prediction.height, **prediction.to_dict()})
        return results


def _load_pyfunc(path: str, model_config: dict[str, Any] | None = None) -> VisionOpsModel:
    """Load the model; MLflow requires this name."""
    engine = EngineName((model_config or {}).get("engine", EngineName.OPENVINO))
    return VisionOpsModel(Predictor(ModelBundle.load(Path(path)), engine))


def log_pyfunc(bundle: ModelBundle, name: str, engine: EngineName = EngineName.OPENVINO) -> ModelInfo:
    """Log a bundle to the active MLflow run, with the code it needs.

    The model is logged as a loader module, not as a Python object: nothing is pickled, so that loading a model runs
    only our own code. The requirements are the installed versions of the packages that inference imports; MLflow does
    not infer them by running the model.

    Args:
        name: Name of the logged model.
        engine: Engine that runs the graph; override it with ``load_model(uri, model_config={"engine": …})``.
    """
    task = served_task(bundle.card.task)
    requirements = [f"{package}=={version(package)}" for package in _REQUIREMENTS]
    if brought := requirement_of(task.name):
        requirements.append(brought)
    with warnings.catch_warnings():
        # MLflow would store and run an example; the signature is written by hand instead.
        warnings.filterwarnings("ignore", ".*input example was not provided", UserWarning)
        return mlflow.pyfunc.log_model(
            name=name,
            loader_module=__name__,
            data_path=str(bundle.folder),
            code_paths=[str(Path(visionops.__file__).parent)],
            model_config={"engine": engine.value},
            signature=_signature(task),
            pip_requirements=requirements,
            metadata={"bundle_digest": bundle.digest, "class_names": list(bundle.card.class_names)},
        )


def _signature(task: ServedTask[Any]) -> ModelSignature:
    outputs = [ColSpec(DataType.long, "width"), ColSpec(DataType.long, "height"), *_answer_columns(task.answer)]
    params = [ParamSpec(key, DataType.double, _OWN_THRESHOLD) for key in task.options]
    # No input schema: with one MLflow makes a data frame of every list, and pandas takes no list of arrays.
    return ModelSignature(None, Schema(outputs), ParamSchema(params) if params else None)


def _answer_columns(answer: type[BaseModel]) -> list[ColSpec]:
    return [ColSpec(_mlflow_type(field.annotation), name) for name, field in answer.model_fields.items()]


def _mlflow_type(annotation: Any) -> Any:
    """Return MLflow's name for a type in a task's answer."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return Object([Property(name, _mlflow_type(f.annotation)) for name, f in annotation.model_fields.items()])
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin in {list, tuple}:
        return Array(_mlflow_type(inside[0]))
    if origin is dict:
        return Map(_mlflow_type(inside[1]))
    return {int: DataType.long, str: DataType.string, float: DataType.double, bool: DataType.boolean}[annotation]


def _images(model_input: Any) -> Iterable[Any]:
    """Return the images of a batch, whatever its container."""
    if isinstance(model_input, pd.DataFrame):
        if _COLUMN not in model_input.columns:
            columns = ", ".join(map(str, model_input.columns))
            raise ImageError(f'input: has the columns {columns}; put the images into "{_COLUMN}"', ImageProblem.EMPTY)
        return list(model_input[_COLUMN])
    if isinstance(model_input, bytes | str):
        raise ImageError("input: expected a list of images, got one image", ImageProblem.UNSUPPORTED)
    return list(model_input)


def _bytes_or_pixels(image: Any, where: str) -> bytes | npt.NDArray[np.uint8]:
    if isinstance(image, dict) and set(image) == {_COLUMN}:
        image = image[_COLUMN]
    if isinstance(image, str):
        try:
            return base64.b64decode(image, validate=True)
        except (binascii.Error, ValueError) as error:
            raise ImageError(f"{where}: text that is not base64 ({error})", ImageProblem.NOT_AN_IMAGE) from error
    if isinstance(image, list):  # an array decoded from JSON
        values = np.asarray(image)
        return values.astype(np.uint8) if values.dtype.kind in "iu" and _is_byte(values) else values
    return image  # type: ignore[no-any-return]


def _is_byte(values: npt.NDArray[Any]) -> bool:
    return bool(values.size) and int(values.min()) >= 0 and int(values.max()) <= 255
