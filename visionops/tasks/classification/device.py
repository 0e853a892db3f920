"""Select the device for torch."""

from __future__ import annotations

from visionops.errors import TrainingError

__all__ = ["torch_device"]


def torch_device(wanted: str) -> str:
    """Return the torch device for the setting ``training.device``.

    Raises:
        TrainingError: This machine does not have it.
    """
    import torch

    if wanted == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    if wanted == "cpu":
        return wanted
    count = torch.cuda.device_count()
    if wanted.isdigit() and int(wanted) < count:
        return f"cuda:{wanted}"
    known = ", ".join(["auto", "cpu", *map(str, range(count))])
    raise TrainingError(f"training.device: {wanted!r} is not available on this machine; expected one of {known}")
