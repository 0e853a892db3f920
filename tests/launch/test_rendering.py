"""Test what is printed at the end of a run."""

from __future__ import annotations

import http.server
import re
import shutil
import subprocess
import threading
from contextlib import closing

import pytest

from launch import RunSummary
from launch.programs import program
from launch.rendering import print_summary
from steps.progress import announce
from visionops.batch.report import BatchSummary, LotSummary
from visionops.endpoint import Endpoint

INSIDE = "kubectl -n vision port-forward service/visionops-steel 8000"


@pytest.mark.parametrize(
    ("endpoint", "lines"),
    [
        ({"url": "http://127.0.0.1:8000"}, ["curl -F file=@part.jpg http://127.0.0.1:8000/predict"]),
        (
            {"url": "https://steel.example", "key_command": "cat 'my home/key'"},
            ["curl -H \"X-API-Key: $(cat 'my home/key')\" -F file=@part.jpg https://steel.example/predict"],
        ),
        (
            {"url": "http://visionops-steel.vision.svc:8000", "key_command": "print [key]", "tunnel": INSIDE},
            [f"{INSIDE} &", 'curl -H "X-API-Key: $(print [key])" -F file=@part.jpg http://127.0.0.1:8000/predict'],
        ),
    ],
)
def test_the_printed_command_sends_an_image_to_the_endpoint(capsys, endpoint, lines):
    named = {"name": "steel", "version": "3", "alias": "champion"}
    print_summary(RunSummary("steel", "s", "r", 1, endpoint=Endpoint(**endpoint | named)))
    assert capsys.readouterr().out.splitlines()[-len(lines) :] == lines


def test_the_commands_of_an_endpoint_have_its_whole_id(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")  # ZenML's own list cuts it at this width
    record = "1f0c7c3e-5d4b-4c58-9a5e-0c7d5a2b9f11"
    endpoint = Endpoint(url="http://127.0.0.1:8000", name="steel", version="3", alias="champion", record=record)
    print_summary(RunSummary("steel", "s", "r", 1, endpoint=endpoint))
    lines = capsys.readouterr().out.splitlines()
    assert f"{program('zenml')} model-deployer models describe {record}   # or logs, stop, start, delete" in lines


FORMS = [
    "/data/my parts/ä [x] 50% #1.jpg",
    "/it's/$HOME/`id`.jpg",
    "/a;b,c.jpg",
    '/say "x"; \\.jpg',
    "/:smile:/[bold]x.jpg",
]


@pytest.mark.parametrize("image", FORMS)
def test_a_shell_reads_the_line_as_it_is_meant(capsys, tmp_path, image):
    endpoint = Endpoint(url="http://127.0.0.1:8000", name="s", version="3", alias="champion")
    print_summary(RunSummary("steel", "s", "r", 1, endpoint=endpoint, sample_image=image))
    line = capsys.readouterr().out.splitlines()[-1]
    (tmp_path / "curl").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "curl").chmod(0o755)
    said = subprocess.check_output(["bash", "-c", line], text=True, env={"PATH": f"{tmp_path}:/usr/bin:/bin"})
    flag, form, url = said.splitlines()
    assert (flag, url) == ("-F", "http://127.0.0.1:8000/predict")
    path = form.removeprefix("file=@")
    if path[0] == '"':  # as described in curl's manual under --form
        path = re.sub(r"\\(.)", r"\1", path[1:-1])
    assert path == image


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is absent")
@pytest.mark.parametrize("name", ["ä [x] 50% #1.jpg", "it's $HOME.jpg", "a;b,c.jpg", 'say "x"; \\.jpg'])
def test_curl_finds_the_file(capsys, tmp_path, name):
    (tmp_path / name).write_bytes(b"the picture")
    server = http.server.HTTPServer(("127.0.0.1", 0), _Echo)
    with closing(server.socket):
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}"
        endpoint = Endpoint(url=url, name="s", version="3", alias="champion")
        image = str(tmp_path / name)
        print_summary(RunSummary("steel", "s", "r", 1, endpoint=endpoint, sample_image=image))
        line = capsys.readouterr().out.splitlines()[-1]
        answer = subprocess.check_output(["bash", "-c", line], stderr=subprocess.DEVNULL, timeout=60)
        thread.join(60)
    assert b"the picture" in answer


class _Echo(http.server.BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


def test_names_in_brackets_are_no_markup(capsys):
    lot = LotSummary(images=1, failed=0, shares={":smile:": 1.0}, confidence=None)
    batch = BatchSummary(
        model="m",
        version="1",
        images=1,
        predicted=1,
        failed=0,
        seconds=1.0,
        lots={"[red]s1[/red]": lot},
        files=("/a [x]/b.parquet",),
    )
    print_summary(RunSummary("steel", "s", "r", 1, batch=batch))
    out = capsys.readouterr().out
    assert "lot [red]s1[/red]" in out
    assert ":smile: 100.0%" in out
    assert "  /a [x]/b.parquet" in out
    announce("read /a [x]/:smile:/[/red]")
    assert capsys.readouterr().err == "• read /a [x]/:smile:/[/red]\n"
