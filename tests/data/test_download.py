"""Archives from a web server on this machine, which interrupts connections as real ones do."""

from __future__ import annotations

import hashlib
import io
import logging
import random
import signal
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.conftest import ROOT
from tests.helpers.disks import mounted
from tests.helpers.file_server import file_server
from tests.helpers.programs import free_port, until
from visionops.data import download
from visionops.data.settings import ArchiveSource, UrlSource
from visionops.data.sources import fetch, source_fingerprint
from visionops.errors import DataError

FILES = {"ok/a.png": random.Random(0).randbytes(150_000), "bad/b.png": random.Random(1).randbytes(150_000)}


def packed(kind: str = "zip") -> bytes:
    sink = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(sink, "w") as archive:
            for name, data in FILES.items():
                archive.writestr(zipfile.ZipInfo(name), data)
    else:
        with tarfile.open(fileobj=sink, mode=f"w:{kind}") as tar:
            for name, data in FILES.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    return sink.getvalue()


DATA = packed()


@pytest.fixture
def server():
    with file_server(DATA) as running:
        yield running


@pytest.fixture(autouse=True)
def pauses(monkeypatch):
    """Return a list that collects the pauses in seconds instead of waiting."""
    waited: list[float] = []
    monkeypatch.setattr(download, "_pause", waited.append)
    return waited


def source(server, path: str = "/parts.zip", data: bytes = DATA) -> UrlSource:
    return UrlSource(kind="url", url=f"{server.url}{path}", sha256=hashlib.sha256(data).hexdigest())


def held(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def left(cache: Path) -> list[str]:
    """Return the files in the cache except locks."""
    return sorted(p.name for p in cache.glob("*") if p.suffix != ".lock") if cache.is_dir() else []


def ranges(server) -> list[str | None]:
    return [wanted for _, wanted in server.requests]


@pytest.mark.parametrize("kind", ["zip", "", "gz", "xz"])
def test_an_archive_is_downloaded_once_unpacked_and_not_kept(server, tmp_path, kind):
    server.data = packed(kind)
    reported: list[tuple[int, int]] = []
    root = fetch(source(server, data=server.data), tmp_path, lambda done, total: reported.append((done, total)))
    assert held(root) == FILES
    assert reported[0][0] == 0
    assert reported[-1][0] == reported[-1][1] > 0
    assert len(left(tmp_path)) == 1
    assert fetch(source(server, "/elsewhere.zip", server.data), tmp_path) == root
    assert ranges(server) == [None]


def test_an_archive_that_is_already_unpacked_is_not_downloaded(server, tmp_path):
    (tmp_path / "parts.zip").write_bytes(DATA)
    here = fetch(ArchiveSource(kind="archive", path=tmp_path / "parts.zip"), tmp_path / "cache")
    assert fetch(source(server), tmp_path / "cache") == here
    assert server.requests == []


def test_the_fingerprint_is_the_checksum_and_needs_no_network(server):
    elsewhere = UrlSource(kind="url", url="http://127.0.0.1:1/parts.zip", sha256=source(server).sha256.upper())
    assert source_fingerprint(elsewhere) == source_fingerprint(source(server))
    assert source_fingerprint(source(server, data=b"other")) != source_fingerprint(source(server))
    assert server.requests == []


def test_broken_connections_are_resumed_by_ranges(server, tmp_path, pauses):
    server.cuts = [100_000, 50_000, None]
    assert held(fetch(source(server), tmp_path)) == FILES
    assert ranges(server) == [None, "bytes=100000-", "bytes=150000-"]
    assert pauses == [1.0, 1.0]


def test_a_server_without_ranges_starts_from_the_beginning(server, tmp_path):
    server.ranges, server.cuts = False, [100_000, None]
    assert held(fetch(source(server), tmp_path)) == FILES
    assert ranges(server) == [None, "bytes=100000-"]


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_missing_size_is_accepted(server, tmp_path, is_chunked):
    server.declares_size, server.is_chunked = False, is_chunked
    server.cuts = [200_000, None] if is_chunked else []  # without chunks an interrupted connection looks complete
    reported: list[tuple[int, int]] = []
    assert held(fetch(source(server), tmp_path, lambda done, total: reported.append((done, total)))) == FILES
    assert reported[-1] == (1, 1)


def test_a_busy_server_is_retried(server, tmp_path, pauses):
    server.statuses = [503, 429, 500]
    assert held(fetch(source(server), tmp_path)) == FILES
    assert pauses == [1.0, 2.0, 4.0]


def test_a_failed_download_names_the_cause_and_a_later_run_resumes(server, tmp_path):
    server.cuts = [100_000, 0, 0, 0, 0]
    with pytest.raises(DataError, match=r"parts\.zip: cannot be downloaded \(.*\); run it again to resume after 1 MB$"):
        fetch(source(server), tmp_path)
    server.requests.clear()
    server.cuts = []
    assert held(fetch(source(server), tmp_path)) == FILES
    assert ranges(server) == ["bytes=100000-"]


def test_a_killed_download_is_resumed(server, tmp_path):
    """The process is killed by a signal that it cannot catch, in the middle of the body."""
    server.cuts, server.hold = [200_000], threading.Event()
    wanted = source(server)
    code = (
        "import sys; from pathlib import Path; from visionops.data.download import download\n"
        "download(sys.argv[1], sys.argv[2], Path(sys.argv[3]), lambda done, total: None)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, wanted.url, wanted.sha256, str(tmp_path)], cwd=ROOT)
    part = tmp_path / f".url-{wanted.sha256[:16]}.part"
    until(lambda: part.is_file() and part.stat().st_size > 0)
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    came = part.stat().st_size
    assert 0 < came <= 200_000
    server.hold.set()
    assert held(fetch(wanted, tmp_path)) == FILES
    assert ranges(server) == [None, f"bytes={came}-"]


def test_a_wrong_checksum_leaves_nothing_behind(server, tmp_path):
    declared = hashlib.sha256(DATA).hexdigest()
    with pytest.raises(DataError, match=rf"has the SHA-256 {declared}, not .* of data\.source\.sha256; it was removed"):
        fetch(source(server, data=b"other"), tmp_path)
    assert left(tmp_path) == []
    assert len(server.requests) == 1


def test_a_partial_download_of_another_version_is_discarded(server, tmp_path):
    """The file changed between two runs: the assembled file is downloaded once more from the beginning."""
    part = tmp_path / f".url-{source(server).sha256[:16]}.part"
    part.write_bytes(b"x" * 1000)
    assert held(fetch(source(server), tmp_path)) == FILES
    assert ranges(server) == ["bytes=1000-", None]


def test_a_partial_download_longer_than_the_file_is_discarded(server, tmp_path):
    part = tmp_path / f".url-{source(server).sha256[:16]}.part"
    part.write_bytes(b"x" * (len(DATA) + 1))
    assert held(fetch(source(server), tmp_path)) == FILES
    assert ranges(server) == [f"bytes={len(DATA) + 1}-", None]


def test_a_complete_download_before_a_crash_is_not_repeated(server, tmp_path):
    (tmp_path / f".url-{source(server).sha256[:16]}.part").write_bytes(DATA)
    assert held(fetch(source(server), tmp_path)) == FILES
    assert server.requests == []


def test_a_file_that_is_not_an_archive_is_named_and_removed(server, tmp_path):
    server.data = b"<html>log in</html>" * 100
    with pytest.raises(DataError, match=rf"^{server.url}/parts\.zip: not a whole zip, tar or 7z archive"):
        fetch(source(server, "/parts.zip?v=2", server.data), tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (404, r"/parts\.zip: HTTP 404 Not Found; check data\.source\.url$"),
        (
            403,
            r"/parts\.zip: HTTP 403 Forbidden; check data\.source\.url, and that ~/\.netrc has a login for its host$",
        ),
        (410, r"/parts\.zip: HTTP 410 Gone"),
    ],
)
def test_a_refusal_is_one_line_and_final(server, tmp_path, status, words):
    server.statuses = [status]
    with pytest.raises(DataError, match=words) as caught:
        fetch(source(server, "/parts.zip?v=2"), tmp_path)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1
    assert left(tmp_path) == []


def test_a_host_that_does_not_answer_is_one_line(tmp_path, pauses):
    absent = UrlSource(kind="url", url=f"http://127.0.0.1:{free_port()}/parts.zip", sha256="0" * 64)
    with pytest.raises(DataError, match=r"/parts\.zip: cannot be downloaded \(Connection refused\); try again$"):
        fetch(absent, tmp_path)
    assert pauses == [1.0, 2.0, 4.0]


def test_redirects_are_followed_and_signed_addresses_are_never_shown(server, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    server.redirect = "/there/parts.zip?X-Amz-Signature=abc"
    server.cuts = [1000, None]
    assert held(fetch(source(server), tmp_path / "a")) == FILES
    assert server.requests[-1] == ("/there/parts.zip?X-Amz-Signature=abc", "bytes=1000-")
    server.statuses = [404]
    with pytest.raises(DataError, match=r"parts\.zip: HTTP 404 Not Found") as refused:
        fetch(source(server), tmp_path / "b")
    server.redirect = "ftp://elsewhere/parts.zip?X-Amz-Signature=abc"
    with pytest.raises(DataError, match=r"redirects to an address that is not a web server's") as lost:
        fetch(source(server), tmp_path / "b")
    server.redirect = "/round?X-Amz-Signature=abc"
    with pytest.raises(DataError, match=r"redirects without end; check data\.source\.url") as endless:
        fetch(source(server), tmp_path / "b")
    assert not [text for text in (caplog.text, *map(str, (refused, lost, endless))) if "abc" in text]
    assert left(tmp_path / "b") == []


def test_a_login_comes_from_netrc_and_is_never_shown(server, tmp_path, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    server.login = "reader:pass-4711"
    with pytest.raises(DataError, match=r"HTTP 401 Unauthorized; .* ~/\.netrc has a login"):
        fetch(source(server), tmp_path / "cache")
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login reader password pass-4711\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    assert held(fetch(source(server), tmp_path / "cache")) == FILES
    assert "4711" not in caplog.text


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://me:secret@host/parts.zip", r"holds a login; remove it and put it into ~/\.netrc"),
        ("https://host/parts.zip?X-Amz-Signature=secret", "holds a secret in its parameter X-Amz-Signature"),
        ("https://host/parts.zip?sig=secret", "holds a secret in its parameter sig"),
        ("ftp://host/parts.zip", r"must be https://host/path of an archive"),
        ("https://host", "must be https://host/path of an archive"),
        ("https:///parts.zip", "must be https://host/path of an archive"),
        ("https://host:x/parts.zip", "must be https://host/path of an archive"),
        ("parts.zip", "must be https://host/path of an archive"),
    ],
)
def test_an_address_that_cannot_be_used_or_kept_is_refused(url, words):
    with pytest.raises(ValidationError, match=words):
        UrlSource(kind="url", url=url, sha256="0" * 64)


@pytest.mark.parametrize("sha256", ["", "0" * 63, "g" * 64])
def test_a_checksum_is_64_digits(sha256):
    with pytest.raises(ValidationError, match="sha256"):
        UrlSource(kind="url", url="https://host/parts.zip", sha256=sha256)


def test_a_disk_that_is_too_small_is_reported_before_the_download(server, tmp_path):
    with (
        mounted(tmp_path / "disk", "size=128k") as disk,
        pytest.raises(DataError, match=r"parts\.zip needs 1 MB, and 0 MB are free; free some space"),
    ):
        fetch(source(server), disk)


def test_a_full_disk_keeps_received_bytes(server, tmp_path):
    server.declares_size = False
    with mounted(tmp_path / "disk", "size=128k") as disk:
        with pytest.raises(DataError, match=r"cannot be written \(no space left on device\)"):
            fetch(source(server), disk)
        assert next(disk.glob(".url-*.part")).stat().st_size > 0


def test_two_concurrent_fetches_download_once(server, tmp_path):
    server.cuts, server.hold = [150_000], threading.Event()
    wanted, roots = source(server), []
    threads = [threading.Thread(target=lambda: roots.append(fetch(wanted, tmp_path))) for _ in range(2)]
    for thread in threads:
        thread.start()
    until(lambda: server.requests)
    server.hold.set()
    for thread in threads:
        thread.join(60)
    assert len(set(roots)) == 1
    assert len(roots) == 2
    assert ranges(server) == [None, "bytes=150000-"]
