"""Networks to train: a backbone that computes features of an image, and a linear head for each question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

__all__ = ["LabelNetwork", "cnn", "residual"]

_DENSE = 128
"""Number of features of `cnn`."""


class LabelNetwork(nn.Module):  # type: ignore[misc]
    """Backbone and heads as one graph.

    Args:
        backbone: Module from images, float32 (N, 3, S, S), to features (N, width).
        classes: Number of classes of each head.
        dropout: Share of the features that are dropped in training.
    """

    def __init__(self, backbone: nn.Module, width: int, classes: Sequence[int], dropout: float = 0.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleList(nn.Linear(width, count) for count in classes)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return logits (N, sum of classes), head after head, and the features (N, width)."""
        features = self.backbone(images)
        hidden = self.dropout(features)
        return torch.cat([head(hidden) for head in self.heads], dim=1), features

    def set_heads(self, heads: Sequence[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]]) -> None:
        """Set weight (classes, width) and bias (classes,) of each head."""
        with torch.no_grad():
            for layer, (weight, bias) in zip(self.heads, heads, strict=True):
                layer.weight.copy_(torch.from_numpy(weight))
                layer.bias.copy_(torch.from_numpy(bias))


def cnn(filters: int, kernel: int) -> tuple[nn.Module, int]:
    """Return three blocks of convolution and pooling, each with twice the channels of the last, and a dense layer.

    Returns:
        The backbone and its number of features.
    """
    layers: list[nn.Module] = []
    before = 3
    for channels in (filters, 2 * filters, 4 * filters):
        layers += [_convolution(before, channels, kernel), nn.ReLU(), nn.MaxPool2d(2)]
        before = channels
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(before, _DENSE), nn.ReLU()]
    return nn.Sequential(*layers), _DENSE


def residual(filters: int) -> tuple[nn.Module, int]:
    """Return a stem, four residual blocks (He et al., Deep residual learning for image recognition, 2016), and a mean.

    Returns:
        The backbone and its number of features.
    """
    layers: list[nn.Module] = [_convolution(3, filters, 7, stride=2), nn.ReLU(), nn.MaxPool2d(2)]
    before = filters
    for channels, stride in ((filters, 1), (2 * filters, 2), (4 * filters, 2), (8 * filters, 2)):
        layers.append(_ResidualBlock(before, channels, stride))
        before = channels
    layers += [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers), before


class _ResidualBlock(nn.Module):  # type: ignore[misc]
    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = _convolution(before, channels, 3, stride)
        self.second = _convolution(channels, channels, 3)
        is_same = before == channels and stride == 1
        self.shortcut = nn.Identity() if is_same else _convolution(before, channels, 1, stride)
        self.act = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.shortcut(x) + self.second(self.act(self.first(x))))


def _convolution(before: int, channels: int, kernel: int, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(before, channels, kernel, stride, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(channels))
