"""Send malformed bodies to a real server: ``python -m tests.serving.fuzz --count 10000``.

Every response must have a status that ``/openapi.json`` lists for the route, and not 500; the process must survive, and
its memory must stay in bounds. All cases come from one seed: ``--seed`` and its number repeat a failed case.
"""

from __future__ import annotations

import argparse
import collections
import dataclasses
import http.client
import io
import json
import random
import socket
import struct
import sys
import tempfile
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from tests.conftest import ROOT
from tests.helpers.bundles import encode, make_bundle, picture
from tests.serving.test_main import server

FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")
BROKEN = 0
"""Placeholder for the status if the case breaks the connection, or the server rightly closes it."""
LIMITS = ("--streams", "2", "--queue", "8", "--upload-timeout", "1", "--idle-timeout", "2", "--max-pixels", "20000000")
INFER = "/v2/models/{name}/infer"
ROUTES = ("/predict", "/predict/batch", "/explain", INFER)
TYPES = (
    "image/png",
    "application/octet-stream",
    "text/plain",
    "application/json",
    "",
    "multipart/form-data",
    "IMAGE/*;x",
)
MAY_BREAK = {"dropped", "slow", "huge"}
_PATIENCE = 60.0


@dataclasses.dataclass(frozen=True, slots=True)
class Case:
    """One request."""

    kind: str
    route: str
    headers: dict[str, str]
    body: bytes
    announced: int | None = None
    """Content-Length in the head, if it differs from the body's."""


@dataclasses.dataclass
class Outcome:
    """Results of the cases."""

    statuses: collections.Counter[tuple[str, str, int]] = dataclasses.field(default_factory=collections.Counter)
    """Number of responses by route, kind and status."""
    faults: list[str] = dataclasses.field(default_factory=list)
    memory_mb: dict[str, float] = dataclasses.field(default_factory=dict)
    """Resident memory at the start, at the peak, and at the end."""


def real_images(folder: Path, count: int = 12) -> list[bytes]:
    """Return image files in every format, some of each folder; generated ones if there are none."""
    found = sorted(folder.rglob("*.jpg"))
    pictures = [np.asarray(Image.open(path).convert("RGB")) for path in found[:: max(1, len(found) // count)]]
    pictures = pictures or [picture([("red", 2, 1)]), picture([("blue", 0, 0)], width=200, height=90)]
    files = [encode(image, file_format) for image in pictures for file_format in FORMATS]
    return files + [path.read_bytes() for path in found[:: max(1, len(found) // count)]]


def cases(images: Sequence[bytes], count: int, seed: int) -> Iterator[Case]:
    """Return ``count`` cases, with few costly ones."""
    wide = [_png(100_000, 1), _png(1, 100_000), encode(np.zeros((1, 60_000, 3), np.uint8), "JPEG")]
    bombs = [_png(50_000, 50_000), _png(4_400, 4_500), _bmp_head(60_000, 60_000), _zeros_png(30_000, 30_000)]
    for number in range(count):
        draw = random.Random(f"{seed}/{number}")
        rare = number % 500
        route = draw.choice(ROUTES)
        image = draw.choice(images)
        if rare == 7:
            yield Case("huge", route, _headers(draw, route), b"", 100_000_000)
        elif rare in {90, 190, 290}:
            yield _wrapped(draw, "slow", route, image)
        elif rare % 50 == 11:
            yield _wrapped(draw, "dropped", route, image)
        elif rare % 50 == 23:
            yield _wrapped(draw, "bomb", route, draw.choice(bombs))
        elif rare % 50 == 37:
            yield _wrapped(draw, "1 x 100,000", route, draw.choice(wide))
        else:
            kind, make = draw.choice(_KINDS)
            yield make(draw, kind, route, image)


def _truncated(draw: random.Random, kind: str, route: str, image: bytes) -> Case:
    return _wrapped(draw, kind, route, image[: draw.randrange(len(image))])


def _flipped(draw: random.Random, kind: str, route: str, image: bytes) -> Case:
    data = bytearray(image)
    for _ in range(draw.choice((1, 2, 8, 64))):
        # Heads matter most.
        at = draw.randrange(min(len(data), 200)) if draw.random() < 0.5 else draw.randrange(len(data))
        data[at] ^= 1 << draw.randrange(8)
    return _wrapped(draw, kind, route, bytes(data))


def _whole(draw: random.Random, kind: str, route: str, image: bytes) -> Case:
    return _wrapped(draw, kind, route, image)


def _mistyped(draw: random.Random, kind: str, route: str, image: bytes) -> Case:
    return Case(kind, route, {"Content-Type": draw.choice(TYPES)}, image)


def _bad_form(draw: random.Random, kind: str, route: str, image: bytes) -> Case:
    body = bytearray(_form([image[:2_000]] * draw.randrange(1, 4), draw.choice(("file", "files", "other", ""))))
    for _ in range(draw.randrange(1, 6)):
        at = draw.randrange(len(body))
        match draw.randrange(3):
            case 0:
                del body[at : at + draw.randrange(1, 60)]
            case 1:
                body[at:at] = draw.choice((b"\r\n", b"--x", b"--x--", b"\0", b"Content-Disposition: form-data\r\n"))
            case _:
                body[at] ^= 1 << draw.randrange(8)
        if not body:
            break
    boundary = draw.choice(("x", "x", "x", "y", "", '"x', "x" * 200))
    return Case(kind, route, {"Content-Type": f"multipart/form-data; boundary={boundary}"}, bytes(body))


def _bad_tensor(draw: random.Random, kind: str, _: str, image: bytes) -> Case:
    data = struct.pack("<I", len(image)) + image
    text = json.dumps(
        {
            "inputs": [
                {
                    "name": draw.choice(("image", "image", "pixels", "x")),
                    "datatype": draw.choice(("BYTES", "BYTES", "UINT8", "FP32")),
                    "shape": draw.choice(([1], [1], [2], [0], [-1], [2**62, 2**62], [1, 1, 3], [10**30], [])),
                    "parameters": {"binary_data_size": draw.choice((len(data), len(data), 0, -1, 2**63, 10**40))},
                }
            ],
            "outputs": draw.choice((None, [], [{"name": "boxes"}], [{"name": "x"}])),
        }
    ).encode()
    length = draw.choice((str(len(text)), str(len(text)), "0", "-1", "9" * 30, "x", str(len(text) + 1), "1e3"))
    body = bytearray(text + data)
    if draw.random() < 0.5:
        body[draw.randrange(len(text) + 4)] ^= 1 << draw.randrange(8)
    return Case(kind, INFER, {"Inference-Header-Content-Length": length}, bytes(body))


def _bad_json(draw: random.Random, kind: str, _: str, __: bytes) -> Case:
    values: object = draw.choice(
        ([], [[]], [1, [2]], ["a"], [None], [{}], [1e400], [2**70], [-1] * 3, [[[255, 0, 0]]], "x", [True] * 3)
    )
    document: object = {"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 1, 3], "data": values}]}
    body = draw.choice(
        (json.dumps(document).encode(), b"[" * draw.choice((10, 5_000, 200_000)), b"\xff{}", b"null", b"")
    )
    return Case(kind, INFER, {"Content-Type": "application/json"}, body)


def _bad_query(draw: random.Random, kind: str, route: str, image: bytes) -> Case:
    case = _wrapped(draw, kind, route, image)
    query = draw.choice(
        ("conf=nan", "conf=1e999", "iou=-1", "grid=17", "grid=2", "model=%00", "format=x", "conf=0&iou=0")
    )
    return dataclasses.replace(case, route=f"{case.route}?{query}")


_KINDS: tuple[tuple[str, Callable[[random.Random, str, str, bytes], Case]], ...] = (
    ("truncated", _truncated),
    ("truncated", _truncated),
    ("bit flips", _flipped),
    ("bit flips", _flipped),
    ("bit flips", _flipped),
    ("whole", _whole),
    ("wrong type", _mistyped),
    ("bad form", _bad_form),
    ("bad tensor", _bad_tensor),
    ("bad JSON", _bad_json),
    ("bad query", _bad_query),
)


def _wrapped(draw: random.Random, kind: str, route: str, image: bytes) -> Case:
    """Return the case's image in a format that the route accepts."""
    if route == INFER:
        text = json.dumps(
            {
                "inputs": [
                    {
                        "name": "image",
                        "datatype": "BYTES",
                        "shape": [1],
                        "parameters": {"binary_data_size": len(image) + 4},
                    }
                ]
            }
        ).encode()
        headers = {"Inference-Header-Content-Length": str(len(text))}
        return Case(kind, route, headers, text + struct.pack("<I", len(image)) + image)
    headers = _headers(draw, route)
    if headers["Content-Type"].startswith("multipart"):
        images = [image] * draw.randrange(1, 4) if route == "/predict/batch" else [image]
        return Case(kind, route, headers, _form(images, "file" if route != "/predict/batch" else "files"))
    return Case(kind, route, headers, image)


def _headers(draw: random.Random, route: str) -> dict[str, str]:
    is_form = route == "/predict/batch" or (route != INFER and draw.random() < 0.5)
    return {"Content-Type": "multipart/form-data; boundary=x" if is_form else "image/png"}


def _form(images: Iterable[bytes], field: str) -> bytes:
    head = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="a"\r\n\r\n'.encode()
    return b"".join(head + image + b"\r\n" for image in images) + b"--x--\r\n"


def _png(width: int, height: int) -> bytes:
    """A whole one, of one colour; the pixels of a large one are missing."""
    if width * height > 100_000_000:
        return _png_of(width, height, zlib.compress(b"\0" * 1_000_000))
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


def _zeros_png(width: int, height: int) -> bytes:
    """All its pixels are there: 900 MB in 1 MB."""
    packer = zlib.compressobj(9)
    row = b"\0" * (width + 1)
    return _png_of(width, height, b"".join(packer.compress(row) for _ in range(height)) + packer.flush())


def _png_of(width: int, height: int, pixels: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def _bmp_head(width: int, height: int) -> bytes:
    return (
        b"BM"
        + struct.pack("<IHHI", 54, 0, 0, 54)
        + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, 0, 0, 0, 0, 0)
    )


def send(port: int, case: Case) -> tuple[int, str]:
    """Return the status, and the error if there was no response."""
    path = case.route.replace("{name}", "cells")
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    announced = case.announced or len(case.body)
    try:
        connection.putrequest("POST", path)
        for name, value in (case.headers | {"Content-Length": str(announced)}).items():
            connection.putheader(name, value)
        connection.endheaders()
        sent: Iterable[bytes] = [case.body]
        if case.kind == "huge":
            sent = (b"0" * 1_000_000 for _ in range(announced // 1_000_000))
        elif case.kind in {"slow", "dropped"}:
            sent = [case.body[: len(case.body) // 2]]
        for piece in sent:
            connection.send(piece)
        if case.kind == "dropped":
            return BROKEN, ""
        response = connection.getresponse()
        response.read()
    except TimeoutError:
        return BROKEN, "no answer"
    except (OSError, http.client.HTTPException) as error:
        return _heard(connection) or BROKEN, "" if case.kind in MAY_BREAK else repr(error)
    else:
        return response.status, ""
    finally:
        connection.close()


def _heard(connection: http.client.HTTPConnection) -> int:
    """Return the status that arrived before the server closed the connection."""
    try:
        head = connection.sock.recv(64) if connection.sock else b""
    except OSError:
        return BROKEN
    return int(head.split()[1]) if head.startswith(b"HTTP/1.1 ") else BROKEN


def fuzz(images: Sequence[bytes], count: int, *, seed: int = 0, clients: int = 4) -> Outcome:
    """Send ``count`` cases to a new server."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        bundle = make_bundle(Path(folder) / "bundle").folder
        with server("--bundle", str(bundle), "--name", "cells", *LIMITS) as (process, port, log):
            resident = psutil.Process(process.pid).memory_info
            documented = _documented(port)
            for image in images[:5]:
                send(port, Case("whole", "/predict", {"Content-Type": "image/png"}, image))
            begin = most = resident().rss / 1e6
            is_over = threading.Event()
            numbered = enumerate(cases(images, count, seed))
            lock = threading.Lock()

            def watch() -> None:
                nonlocal most
                while not is_over.wait(0.02) and process.poll() is None:
                    most = max(most, resident().rss / 1e6)

            def work() -> None:
                while True:
                    with lock:
                        number, case = next(numbered, (-1, None))
                    if case is None:
                        return
                    status, problem = send(port, case)
                    route = case.route.partition("?")[0]
                    with lock:
                        outcome.statuses[route, case.kind, status] += 1
                        allowed = documented[route] - {500} | ({BROKEN} if case.kind in MAY_BREAK else set())
                        if status not in allowed or problem:
                            outcome.faults.append(f"case {number}: {case.kind} to {case.route}: {status} {problem}")

            watcher = threading.Thread(target=watch)
            watcher.start()
            try:
                with ThreadPoolExecutor(clients) as threads:
                    for done in [threads.submit(work) for _ in range(clients)]:
                        done.result()
                if process.poll() is not None:
                    outcome.faults.append(f"the server ended with {process.returncode}")
                else:
                    status, problem = send(port, Case("whole", "/predict", {"Content-Type": "image/png"}, images[0]))
                    if status != 200:
                        outcome.faults.append(f"a good image afterwards: {status} {problem}")
                    outcome.memory_mb = {"begin": begin, "peak": most, "end": resident().rss / 1e6}
            finally:
                is_over.set()
                watcher.join()
            outcome.faults.extend(line for line in log.read_text().splitlines() if "unhandled" in line)
    return outcome


def _documented(port: int) -> dict[str, set[int]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE)
    connection.request("GET", "/openapi.json")
    paths = json.loads(connection.getresponse().read())["paths"]
    connection.close()
    return {route: {int(status) for status in paths[route]["post"]["responses"]} for route in ROUTES}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table of statuses, and return 1 if a case failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.serving.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clients", type=int, default=4)
    options = parser.parse_args(arguments)
    images = real_images(ROOT.parent / "shared" / "data")
    outcome = fuzz(images, options.count, seed=options.seed, clients=options.clients)
    table: dict[tuple[str, str], dict[int, int]] = collections.defaultdict(dict)
    for (route, kind, status), times in outcome.statuses.items():
        table[kind, route][status] = times
    for (kind, route), statuses in sorted(table.items()):
        counts = ", ".join(f"{status or 'broken'}: {times}" for status, times in sorted(statuses.items()))
        print(f"{kind:12} {route:25} {counts}")
    totals: collections.Counter[int] = collections.Counter()
    for (_, _, status), times in outcome.statuses.items():
        totals[status] += times
    print(f"{'all':38} " + ", ".join(f"{status or 'broken'}: {times}" for status, times in sorted(totals.items())))
    print("resident MB  " + ", ".join(f"{when}: {mb:.0f}" for when, mb in outcome.memory_mb.items()))
    for fault in outcome.faults[:20]:
        print(f"FAULT {fault}")
    print(f"{len(outcome.faults)} faults")
    return int(bool(outcome.faults))


if __name__ == "__main__":
    socket.setdefaulttimeout(_PATIENCE)
    sys.exit(main())
