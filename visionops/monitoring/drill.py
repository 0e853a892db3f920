"""Run a drill: send test images, changed by `simulate`, to a live endpoint, so that monitoring must detect drift."""

from __future__ import annotations

import base64
import io
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image
from pydantic import BaseModel, ConfigDict, model_validator

from visionops.data.dataset import Dataset, Split
from visionops.data.files import describe_os_error
from visionops.endpoint import Endpoint
from visionops.errors import ConfigError, DataError, DeploymentError
from visionops.inference.image import decode_image
from visionops.monitoring.drill_ids import drill_ids
from visionops.monitoring.simulate import Kind, class_shift, describe_change, draw_images, modify, require_severity

if TYPE_CHECKING:
    import requests

__all__ = ["Drill", "DrillResult", "render_drill_html", "run_drill"]

_MAX_IMAGES = 100_000
_CONNECTIONS = 4
_TIMEOUT_SECONDS = 60.0
_COME_AGAIN = (429, 503)
_TRIES = 6
"""Maximum number of tries for one image while the endpoint requests retries."""
_LONGEST_WAIT_SECONDS = 60
_SHOWN = 5
_PANEL = 360
"""Longer side of an image in the report, in pixels."""


class Drill(BaseModel):
    """Settings of a drill.

    Raises:
        ConfigError: The severity is not valid for the kind, or there are too few or too many images.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Kind
    severity: float = 1.0
    images: int = 200
    """Number of images; they repeat where the test split has fewer."""
    seed: int = 0

    @model_validator(mode="after")
    def _check(self) -> Drill:
        # Not ValueError: pydantic passes other errors on unchanged, in one line.
        require_severity(self.kind, self.severity)
        if not 1 <= self.images <= _MAX_IMAGES:
            raise ConfigError(f"--images {self.images}: expected 1 to {_MAX_IMAGES}")
        return self


class DrillResult(BaseModel):
    """Result of a drill."""

    model_config = ConfigDict(frozen=True)

    drill: Drill
    change: str
    """Description for people: kind, severity and its meaning."""
    test_images: int
    """Number of different test images available."""
    answered: int
    url: str
    models: tuple[str, ...]
    """Models that answered, as ``name version N``."""
    request_ids: str
    """Prefix of the ids of its requests in the prediction log."""
    seconds: float
    p50_ms: float
    """Median time from the request to the answer."""
    p95_ms: float

    def explain(self) -> str:
        """Return a one-line summary."""
        return (
            f"{self.drill.images} images, {self.change}; {', '.join(self.models)} answered {self.answered}, "
            f"p50 {self.p50_ms:.1f} ms, p95 {self.p95_ms:.1f} ms"
        )


def run_drill(
    endpoint: Endpoint, prepared: Dataset, drill: Drill, progress: Callable[[int], None] = lambda _: None
) -> DrillResult:
    """Send the images of a drill to an endpoint, a few at once.

    Args:
        prepared: Split data set. ``drill.seed`` determines which of its test images are drawn, and how they change.
        progress: Called with the number of answered images.

    Raises:
        DataError: There are no test images, one cannot be read, or none of their classes can be shifted.
        DeploymentError: The endpoint does not answer or refuses an image, even after the waits that it requests.
    """
    test = _test_images(prepared)
    rows = _rows(test, drill)
    paths = test.paths()
    request_ids = drill_ids(uuid.uuid4().hex[:8])
    start = time.perf_counter()
    answers: list[tuple[float, str]] = []
    with _sessions(endpoint) as sessions, _pool() as pool:

        def send(number: int) -> tuple[float, str]:
            path = paths[rows[number]]
            image = _encoded(path, drill, number, test.white)
            session = sessions.get()
            try:
                return _post(session, endpoint, image, f"{request_ids}-{number}", str(path))
            finally:
                sessions.put(session)

        for answer in pool.map(send, range(drill.images)):
            answers.append(answer)
            progress(len(answers))
    milliseconds = [ms for ms, _ in answers]
    p50, p95 = np.percentile(milliseconds, [50, 95]).tolist()
    return DrillResult(
        drill=drill,
        change=_change(test, drill),
        test_images=test.num_images,
        answered=len(answers),
        url=endpoint.url,
        models=tuple(sorted({model for _, model in answers})),
        request_ids=request_ids,
        seconds=time.perf_counter() - start,
        p50_ms=p50,
        p95_ms=p95,
    )


def _test_images(prepared: Dataset) -> Dataset:
    test = prepared.select_split(Split.TEST)
    if not test.num_images:
        raise DataError(f"{prepared.name}: the test split is empty, so there is nothing to send; set data.split")
    return test


def _rows(test: Dataset, drill: Drill) -> npt.NDArray[np.int64]:
    return draw_images(test.presence(), drill.kind, drill.severity, drill.images, np.random.default_rng(drill.seed))


def _change(test: Dataset, drill: Drill) -> str:
    if drill.kind is not Kind.CLASS_SHIFT:
        return describe_change(drill.kind, drill.severity)
    shift = class_shift(test.presence(), drill.severity)
    name = test.all_class_names[shift.class_id]
    return f"{drill.kind} {drill.severity:g}, {name} on {shift.after:.0%} of the images instead of {shift.before:.0%}"


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Yield a thread pool; when the block fails, pending work is cancelled."""
    with ThreadPoolExecutor(_CONNECTIONS) as pool:
        try:
            yield pool
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _read(path: Path, white: int) -> tuple[bytes, npt.NDArray[np.uint8]]:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({describe_os_error(error)}); run again with --no-cache") from error
    return data, decode_image(data, where=str(path), white=white)


def _modified(rgb: npt.NDArray[np.uint8], drill: Drill, number: int) -> npt.NDArray[np.uint8]:
    return modify(rgb, drill.kind, drill.severity, np.random.default_rng([drill.seed, number]))


def _encoded(path: Path, drill: Drill, number: int, white: int) -> tuple[bytes, str]:
    """Return the request body and its media type: the unchanged file where no pixel changes."""
    data, rgb = _read(path, white)
    changed = _modified(rgb, drill, number)
    if changed is rgb:
        return data, "application/octet-stream"
    # JPEG stays JPEG, as from the same camera. PNG of noise may exceed the endpoint's limit.
    kind = "JPEG" if data.startswith(b"\xff\xd8") else "PNG"
    return _encode(changed, kind, quality=95), f"image/{kind.lower()}"


def _encode(rgb: npt.NDArray[np.uint8], kind: str, quality: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(rgb).save(buffer, kind, quality=quality, subsampling=0, compress_level=1)
    return buffer.getvalue()


@contextmanager
def _sessions(endpoint: Endpoint) -> Iterator[SimpleQueue[requests.Session]]:
    """Yield a queue with one session for each connection: requests does not guarantee sharing one between threads."""
    with ExitStack() as stack:
        sessions: SimpleQueue[requests.Session] = SimpleQueue()
        for _ in range(_CONNECTIONS):
            sessions.put(stack.enter_context(_session(endpoint)))
        yield sessions


def _session(endpoint: Endpoint) -> requests.Session:
    import requests
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = requests.Session()
    session.trust_env = False  # ignore proxies and .netrc of the environment
    if endpoint.key is not None:
        session.headers["X-API-Key"] = endpoint.key.get_secret_value()
    retry = Retry(
        total=_TRIES - 1,
        connect=0,
        read=0,
        other=0,
        redirect=0,
        status_forcelist=_COME_AGAIN,
        allowed_methods={"POST"},
        backoff_factor=0.5,
        retry_after_max=_LONGEST_WAIT_SECONDS,  # otherwise up to six hours, as the endpoint requests
        raise_on_status=False,
    )
    session.mount(endpoint.url, HTTPAdapter(max_retries=retry))
    return session


def _post(
    session: requests.Session, endpoint: Endpoint, image: tuple[bytes, str], request_id: str, where: str
) -> tuple[float, str]:
    """Send an image; return the milliseconds and the model that answered."""
    import requests

    url = f"{endpoint.url}/predict"
    headers = {"Content-Type": image[1], "X-Request-ID": request_id}
    try:
        answer = session.post(url, data=image[0], headers=headers, timeout=_TIMEOUT_SECONDS, allow_redirects=False)
    except requests.RequestException as error:
        raise DeploymentError(
            f"{url}: does not answer ({_reason(error)}); see {endpoint.log or 'its log'}, or serve the champion again "
            "with visionops deploy"
        ) from error
    match _told(answer):
        case {"model": {"name": str(name), "version": str(version)}} if answer.ok:
            return answer.elapsed.total_seconds() * 1000, f"{name} version {version}"
        case {"error": {"message": str(message)}}:
            tried = f" {_TRIES} times" if answer.status_code in _COME_AGAIN else ""
            raise DeploymentError(f"{where}: {url} answered {answer.status_code}{tried}: {message}")
    raise DeploymentError(f"{url}: answered {answer.status_code}, but is not a VisionOps endpoint; check the address")


def _reason(error: BaseException) -> str:
    """Return the innermost cause; requests wraps urllib3's error, which wraps the system's."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _told(answer: requests.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def render_drill_html(result: DrillResult, prepared: Dataset) -> str:
    """Return a page with the settings and some of the images, before and after."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("visionops.monitoring", "."), autoescape=True, undefined=jinja2.StrictUndefined
    )
    test = _test_images(prepared)
    rows, paths, keys = _rows(test, result.drill), test.paths(), test.column("key")
    pairs = []
    for number in range(min(_SHOWN, len(rows))):
        _, rgb = _read(paths[rows[number]], test.white)
        changed = _modified(rgb, result.drill, number)
        after = None if changed is rgb else _data_uri(changed)
        pairs.append((keys[rows[number]], _data_uri(rgb), after))
    return environment.get_template("drill.html.j2").render(result=result, pairs=pairs)


def _data_uri(rgb: npt.NDArray[np.uint8]) -> str:
    scale = min(1.0, _PANEL / max(rgb.shape[:2]))
    size = tuple(max(1, round(side * scale)) for side in (rgb.shape[1], rgb.shape[0]))
    small = cv2.resize(rgb, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    return f"data:image/jpeg;base64,{base64.b64encode(_encode(small, 'JPEG', quality=90)).decode()}"
