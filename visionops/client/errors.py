"""What goes wrong between a client and a server.

VisionOpsError
└── ClientError
    ├── RequestRefused      the server answers that it cannot do this: sending it again changes nothing
    └── ServerUnavailable   nobody answers, or the server is busy, for as long as the client was to try
"""

from __future__ import annotations

from visionops.errors import VisionOpsError

__all__ = ["ClientError", "RequestRefused", "ServerUnavailable"]


class ClientError(VisionOpsError):
    """Base of what a client raises."""

    code = "client_error"


class RequestRefused(ClientError):
    """The server refuses a request: a bad image, a wrong key, an option that the model does not have."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{message} ({status} {code})")
        self.status = status
        self.code = code
        self.message = message


class ServerUnavailable(ClientError):
    """Nobody answers, or the server is busy; the message has the last reason."""

    code = "server_unavailable"
