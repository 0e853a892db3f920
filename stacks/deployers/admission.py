"""Explain why a cluster denies an object or a pod at admission, and how to fix it."""

from __future__ import annotations

import json
import re

__all__ = ["cluster_message", "explain_denial"]

_DENIALS = (
    (r".*failed calling webhook.*", False, "contact the cluster's administrator about this webhook"),
    (
        r'.*(admission webhook "[^"]*" denied the request|ValidatingAdmissionPolicy .* denied request).*',
        True,
        "change the setting named here, or the cluster's policy",
    ),
    (r"failed quota: .* must specify .*", True, "set it in resources"),
    (r"exceeded quota: .*", False, "raise the ResourceQuota, or lower resources or replicas"),
    (r".*violates PodSecurity.*", True, "change the setting named here, or the namespace's Pod Security level"),
    (r'.*pods "[^"]*" is forbidden: (?!User ).*', True, "change the setting named here, or the namespace's rule"),
)
"""Pattern of a message, whether only a person can fix it, and the fix; the first match counts. The last pattern is
for LimitRanges."""


def cluster_message(error: BaseException | None) -> str:
    """Return the API server's answer in one line, from the client library's error or from an error that it caused.

    Returns:
        The answer, or "" for an error without one.
    """
    while error is not None:
        try:
            return " ".join(str(json.loads(getattr(error, "body", ""))["message"]).split())
        except (TypeError, ValueError, KeyError):
            error = error.__cause__ or error.__context__
    return ""


def explain_denial(message: str) -> tuple[bool, str]:
    """Return whether only a person can fix a denial, and the denial with its fix; "" if ``message`` is no denial.

    Args:
        message: Answer of the API server in one line, or a controller's report of it.
    """
    for pattern, is_final, fix in _DENIALS:
        if found := re.search(pattern, message):
            return is_final, f"{found[0]}; {fix}"
    return False, ""
