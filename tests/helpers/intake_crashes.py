"""Kill server processes and intakes at random times, with a client that records acknowledged requests."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import os
import random
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from tests.helpers.review import png
from tests.serving.test_switching import PNG, server
from visionops.review.intake import Intake
from visionops.review.items import UseCase
from visionops.review.server_logs import ServerLogs
from visionops.review.settings import ReviewConfig
from visionops.review_store.opening import open_review
from visionops.tasks.labelling import LabelScheme

CELLS = UseCase("cells", "detection", LabelScheme(class_names=("red", "green", "blue")))


def work(place: str, images: str, log: str, environment: Mapping[str, str]) -> None:
    """Run the intake until killed."""
    os.environ.update(environment)
    with open_review(place, images) as review:
        review.put_use_case(CELLS)
        intake = Intake(review, "cells", ServerLogs(Path(log)), ReviewConfig())
        while True:
            intake.run(datetime.now(UTC) + timedelta(minutes=1))
            time.sleep(0.005)


class Client:
    """Client that predicts, and gives feedback on every second prediction or on an image of its own."""

    def __init__(self) -> None:
        self.acknowledged: dict[int, str] = {}
        """Id of the item by the number of the feedback."""
        self.predicted: set[int] = set()
        self.number = 0

    def talk(self, port: int, stop: threading.Event) -> None:
        """Work until the server is gone. Unacknowledged requests are repeated with their keys."""
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            while not stop.is_set():
                self._one(connection)
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()

    def _one(self, connection: http.client.HTTPConnection) -> None:
        number, image = self.number, png(self.number)
        named = {"Idempotency-Key": f"key {number}"}
        if number % 2:
            if number not in self.predicted:
                assert self._ask(connection, "/predict", image, PNG | {"X-Request-ID": f"r-{number}"})[0] == 200
                self.predicted.add(number)
            said = json.dumps({"request_id": f"r-{number}", "comment": f"comment {number}"})
            status, answer = self._ask(connection, "/feedback", said, named | {"Content-Type": "application/json"})
        else:
            mark = "boundary"
            lines = (
                f'--{mark}\r\nContent-Disposition: form-data; name="comment"\r\n\r\ncomment {number}\r\n'
                f'--{mark}\r\nContent-Disposition: form-data; name="file"; filename="a.png"\r\n\r\n'
            )
            body = lines.encode() + image + f"\r\n--{mark}--\r\n".encode()
            form = {"Content-Type": f"multipart/form-data; boundary={mark}"}
            status, answer = self._ask(connection, "/feedback", body, named | form)
        # A prediction whose server was killed between its record and its image is known without an image.
        assert status == 202 or answer["error"]["code"] == "image_not_kept", answer
        if status == 202:
            self.acknowledged[number] = answer["item"]
        self.number += 1

    def _ask(
        self, connection: http.client.HTTPConnection, path: str, body: bytes | str, headers: Mapping[str, str]
    ) -> tuple[int, dict]:
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        return response.status, json.loads(response.read())


def kill_often(
    place: str, images: str, folder: Path, bundle: Path, kills: int, seed: int, environment: Mapping[str, str]
) -> Client:
    """Kill server and intake in turn, at random times."""
    chance, client, log = random.Random(seed), Client(), folder / "log"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    arguments = ["--bundle", str(bundle), "--name", "cells", "--version", "1", "--streams", "2"]
    arguments += ["--prediction-log", str(log), "--prediction-log-images", "1"]
    for _ in range(kills):
        with server(folder / "server.log", *arguments) as (process, port):
            wanted, stop = client.number + chance.randrange(1, 12), threading.Event()
            talking = threading.Thread(target=client.talk, args=(port, stop))
            talking.start()
            taking = context.Process(target=work, args=(place, images, str(log), environment))
            taking.start()
            end = time.monotonic() + 300
            while client.number < wanted:
                assert time.monotonic() < end, "nothing goes on"
                assert talking.is_alive(), "the server failed by itself"
                threading.Event().wait(0.002)
            threading.Event().wait(chance.uniform(0, 0.05))
            assert process.poll() is None
            process.kill()
            threading.Event().wait(chance.uniform(0, 0.5))
            assert taking.is_alive(), "the intake failed by itself"
            taking.kill()
            taking.join(60)
            stop.set()
            talking.join(60)
    return client
