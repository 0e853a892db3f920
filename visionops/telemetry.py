"""Disable the telemetry of the inference engines, which is on by default.

OpenVINO and NNCF send data from their import on, ONNX Runtime from its first session on.
"""

from __future__ import annotations

import os
import sys

__all__ = ["forbid_telemetry"]


def forbid_telemetry() -> None:
    """Stop OpenVINO, NNCF and ONNX Runtime from sending data; call it before they are imported.

    OpenVINO's only switch is a file in the user's home, which we must not write. Instead, the import of its telemetry
    package is blocked.
    """
    # For Python, None means "cannot be imported".
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
