"""Export a trained network to the graph of a bundle. The same weights always give the same bytes."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

__all__ = ["OPSET", "export_graph"]

OPSET = 17
"""ONNX opset that OpenVINO, ONNX Runtime, TensorRT and Triton have supported for years."""


def export_graph(network: Any, size: int, target: Path) -> None:
    """Write the graph: one image for each call, fixed size, float32; logits first, then the embedding.

    Args:
        network: A `visionops.tasks.classification.networks.LabelNetwork`; it is not modified.
        size: Side of the input in pixels.
    """
    import onnx
    import torch

    network = copy.deepcopy(network).to("cpu", memory_format=torch.contiguous_format).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # silence the exporter's warnings on tracing and deprecation
        torch.onnx.export(
            network,
            (torch.zeros(1, 3, size, size),),
            str(target),
            opset_version=OPSET,
            dynamo=False,  # the newer exporter needs onnxscript and writes opset 18 and up
            input_names=["images"],
            output_names=["logits", "embedding"],
        )
    graph = onnx.load(str(target))
    graph.doc_string = ""
    del graph.metadata_props[:]
    onnx.checker.check_model(graph)
    onnx.save(graph, str(target))
