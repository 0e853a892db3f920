"""From a trained network to the graph of a bundle. The same weights give the same bytes, on any day."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

__all__ = ["OPSET", "export_graph"]

OPSET = 17
"""What OpenVINO, ONNX Runtime, TensorRT and Triton have all read for years."""


def export_graph(network: Any, size: int, target: Path) -> None:
    """Write one graph: one image a call, a fixed size, float32; logits first, then the embedding.

    Args:
        network: A `visionops.tasks.classification.networks.LabelNetwork`; it is left as it is.
        size: Side of the input in pixels.
    """
    import onnx
    import torch

    network = copy.deepcopy(network).to("cpu", memory_format=torch.contiguous_format).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's notes on tracing, and on its own age
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
