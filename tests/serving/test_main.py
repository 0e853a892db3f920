"""The server as a separate process."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deploy.serving.__main__ import main
from deploy.serving.settings import Settings
from tests.conftest import ROOT
from tests.helpers.programs import until
from visionops.errors import ConfigError


def run_main(*arguments: str, environment: dict[str, str] | None = None) -> int:
    return main(list(arguments), environment or {})


def test_arguments_win_over_the_environment(tmp_path: Path):
    environment = {"VISIONOPS_PORT": "1", "VISIONOPS_NAME": "steel", "VISIONOPS_ADMIN_KEY": "s3cret", "HOME": "/"}
    settings = Settings.parse(["--port", "2", "--bundle", str(tmp_path)], environment)
    assert (settings.port, settings.name, settings.host, settings.bundle) == (2, "steel", "127.0.0.1", tmp_path)
    assert "s3cret" not in repr(settings)


def test_a_bad_setting_is_named():
    with pytest.raises(ConfigError, match="--port: expected 65535 or less"):
        Settings.parse(["--port", "70000"], {})
    with pytest.raises(ConfigError, match=r"VISIONOPS_ENGINE: expected openvino or onnxruntime \(got 'torch'\)"):
        Settings.parse([], {"VISIONOPS_ENGINE": "torch"})


def test_the_key_cannot_be_an_argument(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        Settings.parse(["--admin-key", "x"], {})
    with pytest.raises(SystemExit):
        Settings.parse(["--help"], {})
    assert "admin" not in capsys.readouterr().out


def one_line(capsys: pytest.CaptureFixture[str]) -> str:
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    return text


def test_a_port_in_use_ends_with_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert run_main("--port", str(port)) == 2
    assert f"127.0.0.1:{port}: cannot listen (Address already in use)" in one_line(capsys)


def test_a_missing_bundle_ends_with_one_line(capsys, tmp_path: Path):
    assert run_main("--port", "0", "--bundle", str(tmp_path)) == 2
    assert "is not a model bundle" in one_line(capsys)


def test_missing_smoke_images_end_with_one_line(capsys, bundle: Path, tmp_path: Path):
    assert run_main("--port", "0", "--bundle", str(bundle), "--smoke-images", str(tmp_path / "none")) == 2
    assert "none: cannot be read (No such file or directory); give --smoke-images a folder" in one_line(capsys)


def test_an_unwritable_log_ends_with_one_line(capsys, tmp_path: Path):
    assert run_main("--port", "0", "--log-file", str(tmp_path / "none" / "x.log")) == 2
    one_line(capsys)


def test_a_host_that_is_not_ours_ends_with_one_line(capsys):
    assert run_main("--port", "0", "--host", "192.0.2.1") == 2
    assert "192.0.2.1:0: cannot listen" in one_line(capsys)


@contextmanager
def server(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int, Path]]:
    """Run a real process; yield it, its port and its log. Log and `errors` are files: a full pipe would block."""
    with tempfile.TemporaryDirectory(prefix="serving-") as folder:
        log, errors = Path(folder, "log"), Path(folder, "errors")
        command = [sys.executable, "-m", "deploy.serving", "--port", "0", *arguments]
        with log.open("wb") as out, errors.open("wb") as err:
            process = subprocess.Popen(command, cwd=ROOT, stdout=out, stderr=err)
        try:
            # A model that is refused has a line before that.
            until(lambda: b'"started"' in log.read_bytes() or process.poll() is not None)
            assert process.poll() is None, errors.read_text()
            started = next(line for line in lines_of(log) if line["event"] == "started")
            yield process, int(started["url"].rpartition(":")[2]), log
        finally:
            process.kill()
            process.wait(60)


def lines_of(log: Path) -> list[dict[str, str]]:
    """Return the log lines of the process."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_a_process_answers_refuses_too_much_and_ends_on_sigterm(bundle: Path):
    with server("--bundle", str(bundle), "--version", "7", "--max-upload-bytes", "1000") as (process, port, log):
        line = lines_of(log)[0]
        assert line["event"] == "started"
        assert line["version"] == "7"
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/ready")
        response = connection.getresponse()
        assert response.status == 200
        assert response.getheader("server") is None
        assert json.loads(response.read())["model"]["version"] == "7"
        # A client that sends everything before it reads must still get the reason.
        head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
        kind = {"Content-Type": "multipart/form-data; boundary=x"}
        connection.request("POST", "/predict", body=head + b"0" * 100_000, headers=kind)
        refused = connection.getresponse()
        assert refused.status == 413
        assert json.loads(refused.read())["error"]["code"] == "upload_too_large"
        connection.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == -signal.SIGTERM
        assert [line["status"] for line in lines_of(log) if line["event"] == "request"] == [413]
        assert log.with_name("errors").read_text() == ""
    with socket.create_server(("127.0.0.1", port)):
        pass


HEAVY = ("torch", "ultralytics", "zenml", "mlflow", "matplotlib", "pandas", "pyarrow", "sklearn")


def test_the_process_imports_nothing_heavy(bundle: Path):
    code = f"""
import sys
from deploy.serving.app import create_app
from deploy.serving.models.models import Loader
from deploy.serving.settings import Settings
from deploy.serving.models.startup import start_models
import deploy.serving.__main__
settings = Settings(bundle={str(bundle)!r})
create_app(settings, start_models(settings, Loader(settings)))
print(sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
