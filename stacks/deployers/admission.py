"""Why a cluster denies an object or a pod at its admission, and how to fix it."""

from __future__ import annotations

import json
import re

__all__ = ["explain_denial", "said_by_cluster"]

_DENIALS = (
    (r".*failed calling webhook.*", False, "have whoever runs the cluster look after this webhook"),
    (
        r'.*(admission webhook "[^"]*" denied the request|ValidatingAdmissionPolicy .* denied request).*',
        True,
        "change the setting that it names, or the cluster's policy",
    ),
    (r"failed quota: .* must specify .*", True, "set it in resources"),
    (r"exceeded quota: .*", False, "raise the ResourceQuota, or lower resources or replicas"),
    (r".*violates PodSecurity.*", True, "change the setting that it names, or the namespace's Pod Security level"),
    (r'.*pods "[^"]*" is forbidden: (?!User ).*', True, "change the setting that it names, or the namespace's rule"),
)
"""What is said, whether only a person can change it, and the fix; the first that fits. The last is for LimitRanges."""


def said_by_cluster(error: BaseException | None) -> str:
    """Return in one line what the API server answered, as the client library's error, or one that it caused, has it.

    Returns:
        "" where there is no such answer.
    """
    while error is not None:
        try:
            return " ".join(str(json.loads(getattr(error, "body", ""))["message"]).split())
        except (TypeError, ValueError, KeyError):
            error = error.__cause__ or error.__context__
    return ""


def explain_denial(message: str) -> tuple[bool, str]:
    """Return whether only a change by a person helps, and the denial with its fix; "" where ``message`` is none.

    Args:
        message: What the API server answers, in one line, or what a controller says of the answer that it got.
    """
    for pattern, is_final, fix in _DENIALS:
        if found := re.search(pattern, message):
            return is_final, f"{found[0]}; {fix}"
    return False, ""
