"""Which device torch works on."""

from __future__ import annotations

from visionops.errors import TrainingError

__all__ = ["torch_device"]


def torch_device(wanted: str) -> str:
    """Return the torch device that ``training.device`` stands for.

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
    raise TrainingError(f"training.device: there is no {wanted!r} here; known are {known}")
