"""The Python client of the prediction server.

>>> from visionops.client import Client
>>> with Client("http://127.0.0.1:8000") as client:
...     answer = client.predict("part.jpg")
...     for found in answer.detections:
...         print(found.class_name, found.confidence, found.box)

`AsyncClient` has the same methods to await. Both send a request again while the server is busy or restarts.
"""

from visionops.client.answers import Answer, Box, Label, Model
from visionops.client.asynchronous import AsyncClient
from visionops.client.calls import Retry
from visionops.client.drawing import draw_answer
from visionops.client.errors import ClientError, RequestRefused, ServerUnavailable
from visionops.client.synchronous import Client

__all__ = [
    "Answer",
    "AsyncClient",
    "Box",
    "Client",
    "ClientError",
    "Label",
    "Model",
    "RequestRefused",
    "Retry",
    "ServerUnavailable",
    "draw_answer",
]
