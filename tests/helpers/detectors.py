"""Make a YOLO detector with random weights that behaves like a trained one, for exactness tests and benchmarks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from visionops.inference.image import decode_image
from visionops.inference.preprocessing import preprocess
from visionops.inference.preprocessing_spec import PreprocessingSpec

CLASSES = ("crazing", "inclusion", "patches", "pitted", "rolled", "scratches")


def tamed_detector(
    name: str, images: Sequence[bytes], spec: PreprocessingSpec, *, end2end: bool = False, seed: int = 0
) -> Any:
    """Return a torch model with random weights whose activations, scores and boxes vary like those of a trained one.

    Untrained weights give nearly constant outputs, so batch norm is calibrated on the images, and the last layers are
    scaled.

    Args:
        name: An architecture of Ultralytics, such as ``yolov8n``.
        images: Encoded files.
        seed: Seed of the weights; another one gives another model.
    """
    import torch
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(seed)
    model = DetectionModel(f"{name}.yaml", nc=len(CLASSES), verbose=False)
    model.names = dict(enumerate(CLASSES))
    batch = torch.from_numpy(np.concatenate([preprocess(decode_image(image), spec)[0] for image in images]))
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None
    head = model.model[-1]
    head.end2end = end2end
    outputs: dict[torch.nn.Module, torch.Tensor] = {}
    with torch.no_grad():
        model.train()(batch)
        layers = [branch[-1] for part in (head.one2one if end2end else head.one2many).values() for branch in part]
        hooks = [layer.register_forward_hook(lambda m, _, out: outputs.__setitem__(m, out)) for layer in layers]
        model.eval()(batch)
        for hook in hooks:
            hook.remove()
        for layer, out in outputs.items():
            is_class = layer.out_channels == len(CLASSES)
            mean = out.mean(dim=(0, 2, 3), keepdim=True)
            gain = (5.0 if is_class else 2.0) / (out - mean).abs().amax(dim=(0, 2, 3))
            layer.weight.mul_(gain[:, None, None, None])
            layer.bias.copy_((layer.bias - mean.flatten()) * gain + (-3.0 if is_class else 1.0))
    return model
