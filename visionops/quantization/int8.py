"""Quantize a bundle's graph to 8-bit integers after training, with ranges from validation images.

NNCF writes OpenVINO's own format; docs/decisions/006-int8.md says why, and which layers stay in float.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from visionops.data.dataset import Dataset, Split
from visionops.data.files import atomic_folder
from visionops.errors import DataError, QuantizationError
from visionops.evaluation.settings import EvaluationPlan
from visionops.home import visionops_home
from visionops.inference.bundle import BundleCard, ModelBundle
from visionops.inference.predictor import Predictor
from visionops.inference.settings import Precision
from visionops.monitoring.estimation.held_out import HELD_OUT_FILE, add_held_out
from visionops.monitoring.reference import REFERENCE_FILE, add_reference
from visionops.quantization.settings import QuantizationPlan
from visionops.tasks.comparison import comparison_set
from visionops.tasks.spec import TaskSpec
from visionops.telemetry import forbid_telemetry

__all__ = ["calibration_images", "quantization_folder", "quantize_bundle"]

_GRAPH = "model.int8.xml"


def quantize_bundle(
    bundle: ModelBundle,
    dataset: Dataset,
    task: TaskSpec[Any],
    plan: QuantizationPlan,
    folder: Path,
    report: Callable[[int], object],
) -> ModelBundle:
    """Return a bundle with both graphs that is served in INT8; the same images always give the same bundle.

    Args:
        bundle: A bundle in a float precision.
        dataset: Up to ``plan.quantization.images`` of its val split set the ranges; the whole val split sets the card's
            metrics.
        folder: Target folder; receives the complete bundle or nothing.
        report: Called with the number of images read.

    Raises:
        QuantizationError: The bundle is quantized already, there are no val images, or NNCF cannot quantize the graph.
        DataError: A val image cannot be read.
    """
    if bundle.card.precision is Precision.INT8:
        raise QuantizationError(
            f"{bundle.card.name}: the champion is INT8 already; train a new one, "
            "or go back to its float version with --pipeline deployment --rollback"
        )
    images = calibration_images(dataset, plan.quantization.images)
    forbid_telemetry()
    import openvino

    graph = _quantize(bundle, _Tensors(bundle, images, report))
    folder.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(folder, replace=True) as unfinished:
        for name in bundle.card.files.keys() - {
            REFERENCE_FILE,
            HELD_OUT_FILE,
        }:  # else they would be the float model's metrics
            shutil.copy2(bundle.folder / name, unfinished / name)
        openvino.save_model(graph, unfinished / _GRAPH, compress_to_fp16=False)
        card = _card(bundle, images)
        measured = ModelBundle.create(unfinished, card)
        ModelBundle.create(
            unfinished, card.model_copy(update={"metrics": _val_metrics(measured, dataset, task, plan.scoring)})
        )
    return add_held_out(add_reference(ModelBundle.load(folder), dataset), dataset)


def calibration_images(dataset: Dataset, count: int) -> Dataset:
    """Return up to ``count`` images of the val split, spread evenly over it.

    Raises:
        QuantizationError: The val split is empty.
    """
    val = dataset.select_split(Split.VAL)
    if not val.num_images:
        raise QuantizationError(f"{dataset.name}: the val split has no images to quantize with; see data.split.val")
    return val.take_evenly(count)


def quantization_folder(bundle: ModelBundle, dataset: Dataset, plan: QuantizationPlan) -> Path:
    """Return the folder for the quantized bundle before it becomes an artifact."""
    identity = f"{bundle.digest} {dataset.fingerprint()} {plan.quantization.model_dump_json()}"
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    return visionops_home() / "quantization" / f"{plan.scoring.use_case.name}-{key}"


class _Tensors:
    """The input tensors that a predictor passes to its engine, image by image, as in service."""

    def __init__(self, bundle: ModelBundle, images: Dataset, report: Callable[[int], object]) -> None:
        self._images = images
        self._report = report
        self._predictor = Predictor(bundle)
        self._seen: list[npt.NDArray[np.float32]] = []
        infer = self._predictor.engine.infer

        def record(tensor: npt.NDArray[np.float32], **options: Any) -> list[npt.NDArray[np.float32]]:
            self._seen.append(tensor.copy())
            return infer(tensor, **options)

        self._predictor.engine.infer = record  # type: ignore[method-assign]

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        """Yield tensors, float32 (1, 3, H, W) each."""
        for row, (key, path) in enumerate(zip(self._images.column("key"), self._images.paths(), strict=True)):
            try:
                data = path.read_bytes()
            except OSError as error:
                raise DataError(f"{key}: cannot be read ({error.strerror}: {path}); fetch the data again") from error
            self._seen.clear()
            self._predictor.infer(data, where=key)
            self._report(row + 1)  # before the yield: the consumer does not resume after the last image
            yield from self._seen


def _quantize(bundle: ModelBundle, tensors: Iterable[npt.NDArray[np.float32]]) -> Any:
    """Return the OpenVINO model that NNCF makes of the bundle's graph."""
    import openvino

    # On import NNCF looks for a CUDA tool chain, and logs a message if there is none.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import nncf
    from nncf import errors
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    nncf.set_log_level(logging.ERROR)
    model = openvino.Core().read_model(bundle.model_path)
    excluded = _after_last_layers(model)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # hide NNCF's progress bars; we have our own
            quantized = nncf.quantize(
                model,
                nncf.Dataset(tensors),
                subset_size=sys.maxsize,  # all tensors: a tiled image has several
                # SiLU has negative outputs: asymmetric ranges fit its values better.
                preset=nncf.QuantizationPreset.MIXED,
                ignored_scope=nncf.IgnoredScope(names=excluded, validate=False),
                advanced_parameters=nncf.AdvancedQuantizationParameters(
                    # Without VNNI a CPU accumulates products in 16 bits: 7-bit weights cannot overflow them.
                    overflow_fix=nncf.OverflowFix.ENABLE,
                    # The whole observed range. The default, the mean over images, cuts off values that only some
                    # images have: defects.
                    activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
                ),
            )
    except (RuntimeError, errors.InternalError, errors.UnsupportedModelError, errors.ValidationError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[-1].strip()
        raise QuantizationError(
            f"{bundle.model_path}: NNCF cannot quantize it ({reason}); serve it in float"
        ) from error
    if not any(op.get_type_name() == "FakeQuantize" for op in quantized.get_ops()):
        raise QuantizationError(f"{bundle.model_path}: has no layer that NNCF quantizes; serve it in float")
    _number_names(quantized)
    return quantized


def _after_last_layers(model: Any) -> list[str]:
    """Return the operations after the last learned layers: for a detector, those that compute boxes and scores.

    They mix pixels and probabilities, for which one range of 256 steps is too coarse. A convolution without a bias is
    not a learned layer here: it is the fixed one that averages a distribution over distances.
    """
    found: dict[str, None] = {}
    waiting = [result.input_value(0).get_node() for result in model.get_results()]
    while waiting:
        op = waiting.pop()
        if op.get_friendly_name() in found or _is_learned_layer(op):
            continue
        found[op.get_friendly_name()] = None
        waiting += [value.get_node() for value in op.input_values()]
    return list(found)


def _is_learned_layer(op: Any) -> bool:
    inputs = [value.get_node() for value in op.input_values()]
    if not any(_is_constant(node) for node in inputs):
        return False
    if op.get_type_name() == "Add":
        return any(node.get_type_name() in {"Convolution", "GroupConvolution", "MatMul"} for node in inputs)
    return op.get_type_name() in {"MatMul", "ConvolutionBackpropData"}


def _is_constant(op: Any) -> bool:
    """Return whether an operation is a constant, or a constant that is reshaped for an addition, such as a bias."""
    while op.get_type_name() in {"Reshape", "Convert"}:
        op = op.input_value(0).get_node()
    return bool(op.get_type_name() == "Constant")


def _number_names(model: Any) -> None:
    """Rename operations by position: OpenVINO numbers them per process, so a second run would write another file."""
    for number, op in enumerate(model.get_ordered_ops()):
        if op.get_type_name() not in {"Parameter", "Result"}:
            op.set_friendly_name(f"{op.get_type_name()}_{number}")


def _card(bundle: ModelBundle, images: Dataset) -> BundleCard:
    facts = {"of": bundle.digest, "images": images.num_images, "images_fingerprint": images.fingerprint()}
    training = bundle.card.training | {"quantization": facts}
    return bundle.card.model_copy(update={"precision": Precision.INT8, "training": training, "metrics": {}})


def _val_metrics(
    bundle: ModelBundle, dataset: Dataset, task: TaskSpec[Any], scoring: EvaluationPlan
) -> dict[str, float]:
    """Return the metrics of the graph that is served, for the card."""
    val = dataset.select_split(Split.VAL)
    as_test = val.replace_column("split", [Split.TEST.value] * val.num_images)
    known = comparison_set(as_test, [bundle.card]).dataset_for(bundle.card)
    evaluation = scoring.evaluation.model_copy(update={"latency_images": 1, "resamples": 0})
    metrics = task.evaluate(bundle, known, scoring.model_copy(update={"evaluation": evaluation}), None).metrics
    return {name: metrics[name] for name in task.tuning_metrics if name in metrics}
