"""The engines call home unless they are told not to. Ours never do.

OpenVINO and NNCF begin when they are imported, ONNX Runtime with its first session.
"""

from __future__ import annotations

import os
import sys

__all__ = ["forbid_telemetry"]


def forbid_telemetry() -> None:
    """Keep OpenVINO, NNCF and ONNX Runtime from sending anything; to be called before they are imported.

    OpenVINO has no switch but a file in the user's home, which is not ours to write: it goes without the package that
    sends.
    """
    # None says "cannot be imported" to Python.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
