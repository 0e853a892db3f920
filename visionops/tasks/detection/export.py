"""Export a checkpoint to the files of a bundle. The same weights always give the same bytes."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import Any

from visionops.errors import TrainingError
from visionops.inference.bundle import Decode

__all__ = ["OPSET", "export_onnx", "read_checkpoint", "write_checkpoint"]

OPSET = 17
"""ONNX opset that OpenVINO, ONNX Runtime, TensorRT and Triton have supported for years."""
_NOTICE = {"author", "license"}
"""Metadata of the exporter that stays in the graph: the notice of the model's author and licence."""


def read_checkpoint(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint that this project's training wrote; return None when it cannot be used."""
    from ultralytics.utils.patches import torch_load

    if not path.is_file():
        return None
    try:
        checkpoint = torch_load(path, map_location="cpu")
    except Exception:  # noqa: BLE001 - a file cut by an interruption can raise anything; the caller starts without it
        return None
    usable = isinstance(checkpoint, dict) and (checkpoint.get("ema") or checkpoint.get("model")) is not None
    return checkpoint if usable else None


def write_checkpoint(checkpoint: dict[str, Any], settings: dict[str, Any], target: Path) -> None:
    """Write only the weights, in half precision and Ultralytics' format, for further training and export.

    Ultralytics' own checkpoints contain dates, paths of this machine and the state of git.
    """
    import torch
    import ultralytics

    model = checkpoint.get("ema") or checkpoint["model"]
    model.args = dict(settings)
    model.criterion = None
    model.half()
    for parameter in model.parameters():
        parameter.requires_grad = False
    content = {"epoch": -1, "model": model, "train_args": dict(settings), "version": ultralytics.__version__}
    torch.save(content, target)


def export_onnx(checkpoint: Path, target: Path, *, image_size: int, nms_free: bool) -> Decode:
    """Write the graph: one image for each call, fixed size, float32.

    Args:
        checkpoint: File from `write_checkpoint`.
        target: Its name must end in ``.onnx``.
        nms_free: Use the head that needs no NMS, where the model has one.

    Returns:
        Format of the graph's output.

    Raises:
        TrainingError: The graph's output has an unsupported format.
    """
    import onnx
    from ultralytics import YOLO

    model = YOLO(str(checkpoint), task="detect")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # silence the exporter's notes on tracing
        exported = Path(
            model.export(
                format="onnx",
                imgsz=image_size,
                batch=1,
                dynamic=False,
                opset=OPSET,
                simplify=importlib.util.find_spec("onnxslim") is not None,
                nms=False if nms_free else None,
                device="cpu",
                verbose=False,
            )
        )
    graph = onnx.load(str(exported))
    exported.unlink()
    # The rest is a date, and names that are in the card.
    onnx.helper.set_model_props(graph, {kept.key: kept.value for kept in graph.metadata_props if kept.key in _NOTICE})
    graph.doc_string = ""
    onnx.checker.check_model(graph)
    decode = _decode_of(graph, classes=len(model.names))
    onnx.save(graph, str(target))
    return decode


def _decode_of(graph: Any, classes: int) -> Decode:
    shapes = [[d.dim_value for d in output.type.tensor_type.shape.dim] for output in graph.graph.output]
    match shapes:
        case [[1, _, 6]]:
            return Decode.YOLO_END2END
        case [[1, rows, _]] if rows == 4 + classes:
            return Decode.YOLO
    raise TrainingError(f"the exported graph outputs {shapes} for {classes} classes; choose another training.model")
