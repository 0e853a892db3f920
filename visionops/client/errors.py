"""Errors of the client.

VisionOpsError
└── ClientError             the request cannot be made or sent, or the answer is not that of a VisionOps server
    ├── RequestRefused      the server refuses the request; repeating it changes nothing
    └── ServerUnavailable   the server does not answer or stays busy until the client gives up
"""

from __future__ import annotations

from visionops.errors import VisionOpsError

__all__ = ["ClientError", "RequestRefused", "ServerUnavailable"]


class ClientError(VisionOpsError):
    """Base class of the client's errors."""

    code = "client_error"


class RequestRefused(ClientError):
    """The server refuses a request: a bad image, a wrong key, an option that the model does not have.

    Args:
        status: HTTP status. None for one image of a batch, whose other images have answers.
        code: The server's code, such as ``not_an_image``.
        message: The server's message.
    """

    def __init__(self, status: int | None, code: str, message: str) -> None:
        super().__init__(f"{message} ({code if status is None else f'{status} {code}'})")
        self.status = status
        self.code = code
        self.message = message


class ServerUnavailable(ClientError):
    """The server does not answer, or stays busy; the message has the last reason.

    Args:
        status: HTTP status of the last answer, None where there was none.
        code: The server's code in that answer, such as ``overloaded``; ``server_unavailable`` where there was none.
    """

    code = "server_unavailable"

    def __init__(self, message: str, status: int | None = None, code: str = "server_unavailable") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
