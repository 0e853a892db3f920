"""Make sealed bundles with a small ONNX graph in milliseconds: a "detector" of bright red, green and blue cells, and a
"classifier" of the mean colour.

`make_bundle`: the input is cut into cells of ``CELL`` x ``CELL`` pixels. Each cell is a candidate box; its score for a
class is ``max(0, 2 * mean - 1)`` of that class's channel, so a pure red cell on black is a "red" of score 1.0, black is
nothing and so is the grey of the letterbox.

>>> bundle = make_bundle(tmp_path / "bundle")
>>> image = picture([("red", 2, 1)])             # a red cell at column 2, row 1
>>> Predictor(bundle).predict(image).boxes
array([[64., 32., 96., 64.]])

`make_label_bundle`: the mean of each channel, 0 to 1, is the embedding (1, 3); the logit of a class is ``gain`` times
the mean of one channel. Class k of head j looks at channel (k + j) % 3, so that of the classes red, green and blue of
the first head the brightest channel wins, and no two heads of a bundle give the same answers.

>>> bundle = make_label_bundle(tmp_path / "bundle")
>>> Predictor(bundle).predict(filled((255, 0, 0))).answers[0].class_name
'red'
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from visionops.inference.bundle import BundleCard, Decode, Head, ModelBundle, Thresholds
from visionops.inference.preprocessing_spec import PreprocessingSpec, Resize, Tiling
from visionops.inference.settings import Precision

CELL = 32
CLASSES = ("red", "green", "blue")
_COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255), "white": (255, 255, 255)}


def make_bundle(
    folder: Path,
    *,
    class_names: Sequence[str] = CLASSES,
    size: int = 128,
    end2end: bool = False,
    precision: Precision = Precision.F32,
    thresholds: Thresholds | None = None,
    name: str = "cells",
    box_scale: float = 1.0,
    gain: float = 2.0,
    metrics: dict[str, float] | None = None,
    graph_classes: int | None = None,
    tiles: Tiling | None = None,
    white: int = 65535,
) -> ModelBundle:
    """Return a sealed bundle in ``folder``.

    Args:
        class_names: Channels red, green, blue in turn; classes after the third are never seen.
        size: Input width and height, a multiple of `CELL`.
        end2end: (1, N, 6) outputs instead of (1, 4 + classes, N).
        box_scale: Size of a box as a multiple of its cell: above 1, neighbours overlap and NMS has work.
        gain: Slope of the score; at 2.0 it is 1 for a saturated cell. Another value makes a model of another digest.
        graph_classes: Number of classes of the graph, where it should contradict the card.
        tiles: Tiling of the card.
        white: White level of the card.
    """
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(make_model(graph_classes or len(class_names), size, end2end, box_scale, gain), folder / "model.onnx")
    card = BundleCard(
        task="detection",
        name=name,
        architecture="cells",
        class_names=tuple(class_names),
        preprocessing=PreprocessingSpec(width=size, height=size, tiles=tiles, white=white),
        decode=Decode.YOLO_END2END if end2end else Decode.YOLO,
        thresholds=thresholds or Thresholds(),
        precision=precision,
        metrics=metrics or {},
        data_fingerprint="0" * 64,
    )
    return ModelBundle.create(folder, card)


def make_model(
    classes: int = 3, size: int = 128, end2end: bool = False, box_scale: float = 1.0, gain: float = 2.0
) -> onnx.ModelProto:
    """Return the graph of `make_bundle`, not saved."""
    side = size // CELL
    cells = side * side
    weight = np.zeros((classes, 3, CELL, CELL), np.float32)
    for channel in range(min(classes, 3)):
        weight[channel, channel] = gain / CELL**2
    constants = {
        "weight": weight,
        "bias": np.full(classes, 1.0 - gain, np.float32),
        "flat": np.array([1, classes, cells], np.int64),
        "boxes": _boxes(side, box_scale, end2end),
    }
    nodes = [
        helper.make_node("Conv", ["images", "weight", "bias"], ["logits"], strides=[CELL, CELL]),
        helper.make_node("Relu", ["logits"], ["maps"]),
        helper.make_node("Reshape", ["maps", "flat"], ["scores"]),
    ]
    if end2end:
        nodes += [
            helper.make_node("Transpose", ["scores"], ["rows"], perm=[0, 2, 1]),
            helper.make_node("ReduceMax", ["rows"], ["best"], axes=[2], keepdims=1),
            helper.make_node("ArgMax", ["rows"], ["index"], axis=2, keepdims=1),
            helper.make_node("Cast", ["index"], ["class"], to=TensorProto.FLOAT),
            helper.make_node("Concat", ["boxes", "best", "class"], ["output0"], axis=2),
        ]
        shape = [1, cells, 6]
    else:
        nodes.append(helper.make_node("Concat", ["boxes", "scores"], ["output0"], axis=1))
        shape = [1, 4 + classes, cells]
    graph = helper.make_graph(
        nodes,
        "cells",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def make_extent_bundle(folder: Path, size: int, tiles: Tiling | None = None) -> ModelBundle:
    """Return a "detector" with one box for each of the channels red, green and blue: around all pixels bright in it.

    Its boxes in a part of an image are exact, so tiles and their borders can be tested to the pixel. The score falls
    with the area of the box, from 1 to one half, so a piece of an object scores higher than the whole.
    """
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(_extent_model(size), folder / "model.onnx")
    card = BundleCard(
        task="detection",
        name="extents",
        architecture="extents",
        class_names=CLASSES,
        preprocessing=PreprocessingSpec(width=size, height=size, tiles=tiles),
        decode=Decode.YOLO,
        data_fingerprint="0" * 64,
    )
    return ModelBundle.create(folder, card)


def _extent_model(size: int) -> onnx.ModelProto:
    index = np.arange(size, dtype=np.float32)
    constants = {
        "half": np.array(0.5, np.float32),
        "size": np.array(size, np.float32),
        "share": np.array(0.5 / size**2, np.float32),
        "one": np.array(1, np.float32),
        "from_end": size - index,
        "from_start": index + 1,
        "eye": np.eye(3, dtype=np.float32)[None],
    }
    nodes = [
        helper.make_node("Greater", ["images", "half"], ["bright"]),
        helper.make_node("Cast", ["bright"], ["mask"], to=TensorProto.FLOAT),
    ]
    for axis, other in (("x", 2), ("y", 3)):
        nodes += [
            helper.make_node("ReduceMax", ["mask"], [f"{axis}_any"], axes=[other], keepdims=0),
            helper.make_node("Mul", [f"{axis}_any", "from_end"], [f"{axis}_first"]),
            helper.make_node("Mul", [f"{axis}_any", "from_start"], [f"{axis}_last"]),
            helper.make_node("ReduceMax", [f"{axis}_first"], [f"{axis}_back"], axes=[2], keepdims=1),
            helper.make_node("ReduceMax", [f"{axis}_last"], [f"{axis}_end"], axes=[2], keepdims=1),
            helper.make_node("Sub", ["size", f"{axis}_back"], [f"{axis}_start"]),
            helper.make_node("Sub", [f"{axis}_end", f"{axis}_start"], [f"{axis}_size"]),
            helper.make_node("Add", [f"{axis}_end", f"{axis}_start"], [f"{axis}_sum"]),
            helper.make_node("Mul", [f"{axis}_sum", "half"], [f"{axis}_centre"]),
        ]
    nodes += [
        helper.make_node("ReduceMax", ["x_any"], ["seen"], axes=[2], keepdims=1),
        helper.make_node("Mul", ["x_size", "y_size"], ["area"]),
        helper.make_node("Mul", ["area", "share"], ["loss"]),
        helper.make_node("Sub", ["one", "loss"], ["left"]),
        helper.make_node("Mul", ["seen", "left"], ["score"]),
        helper.make_node("Mul", ["score", "eye"], ["scores"]),
        helper.make_node("Concat", ["x_centre", "y_centre", "x_size", "y_size", "scores"], ["rows"], axis=2),
        helper.make_node("Transpose", ["rows"], ["output0"], perm=[0, 2, 1]),
    ]
    graph = helper.make_graph(
        nodes,
        "extents",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [1, 7, 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def make_label_bundle(
    folder: Path,
    *,
    heads: Sequence[Head] | None = None,
    task: str | None = None,
    size: int = 32,
    gain: float = 8.0,
    preprocessing: PreprocessingSpec | None = None,
    precision: Precision = Precision.F32,
    name: str = "colours",
    metrics: dict[str, float] | None = None,
    graph_classes: int | None = None,
    has_embedding: bool = True,
) -> ModelBundle:
    """Return a sealed bundle in ``folder``.

    Args:
        heads: Heads of the card; one head "class" of `CLASSES` when None.
        task: Task of the card; by the number of heads when None.
        size: Input width and height; images are stretched to it. Not used when ``preprocessing`` is given.
        gain: Logit of a saturated channel. Another value makes a model of another digest.
        graph_classes: Number of classes of the graph, where it should contradict the card.
        has_embedding: Whether the graph has its second output.
    """
    heads = tuple(heads or (Head(name="class", class_names=CLASSES),))
    spec = preprocessing or PreprocessingSpec(width=size, height=size, resize=Resize.STRETCH)
    channels = [(k + j) % 3 for j, head in enumerate(heads) for k in range(len(head.class_names))]
    channels = channels if graph_classes is None else [k % 3 for k in range(graph_classes)]
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(make_label_model(channels, spec, gain, has_embedding=has_embedding), folder / "model.onnx")
    many = len(heads) > 1
    card = BundleCard(
        task=task or ("attributes" if many else "classification"),
        name=name,
        architecture="colours",
        class_names=tuple(f"{head.name}={c}" if many else c for head in heads for c in head.class_names),
        heads=heads,
        preprocessing=spec,
        decode=Decode.LOGITS,
        precision=precision,
        metrics=metrics or {},
        data_fingerprint="0" * 64,
    )
    return ModelBundle.create(folder, card)


def make_label_model(
    channels: Sequence[int], spec: PreprocessingSpec, gain: float = 8.0, *, has_embedding: bool = True
) -> onnx.ModelProto:
    """Return the graph of `make_label_bundle`, not saved.

    Args:
        channels: Channel of each logit.
    """
    weight = np.zeros((3, len(channels)), np.float32)
    weight[list(channels), np.arange(len(channels))] = gain
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["embedding"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["embedding", "weight"], ["logits"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, len(channels)])]
    if has_embedding:
        outputs.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [1, 3]))
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, spec.height, spec.width])],
        outputs,
        [numpy_helper.from_array(weight, "weight")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def filled(colour: tuple[int, int, int], *, width: int = 32, height: int = 32) -> npt.NDArray[np.uint8]:
    """Return an image of one colour, uint8 (height, width, 3) RGB."""
    return np.full((height, width, 3), colour, np.uint8)


def picture(
    cells: Sequence[tuple[str, int, int]] = (), *, width: int = 128, height: int = 128
) -> npt.NDArray[np.uint8]:
    """Return a black image, uint8 (height, width, 3) RGB, with coloured cells at (colour, column, row)."""
    image = np.zeros((height, width, 3), np.uint8)
    for colour, column, row in cells:
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = _COLOURS[colour]
    return image


def encode(image: npt.NDArray[np.uint8], file_format: str = "PNG") -> bytes:
    """Return an encoded image file."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format=file_format)
    return buffer.getvalue()


def _boxes(side: int, scale: float, end2end: bool) -> npt.NDArray[np.float32]:
    row, column = np.divmod(np.arange(side * side), side)
    centre = np.stack([column + 0.5, row + 0.5], axis=1) * CELL
    half = np.full_like(centre, CELL * scale / 2)
    if end2end:
        return np.hstack([centre - half, centre + half]).astype(np.float32)[None]
    return np.hstack([centre, half * 2]).T.astype(np.float32)[None]
