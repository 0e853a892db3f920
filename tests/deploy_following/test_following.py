"""Keep a real server on the champion of a real registry, with moved aliases and restarts."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from deploy.following.__main__ import main
from deploy.following.follower import Follower
from deploy.following.options import FollowOptions
from tests.conftest import ROOT
from tests.helpers.bundles import encode, picture
from tests.helpers.programs import free_port, started, until
from tests.helpers.tracking import add_version, make_tracking
from tests.serving.test_switching import load_of
from visionops.errors import DeploymentError, RegistryError
from visionops.registry import ModelRegistry

KEY = "k3y"


@contextlib.contextmanager
def server(folder: Path):
    port = free_port()
    command = [sys.executable, "-m", "deploy.serving", "--name", "cells", "--port", str(port)]
    with started(folder, port, *command, ready="/health", env={"VISIONOPS_ADMIN_KEY": KEY}):
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def following(environment: dict[str, str], log: Path):
    """The program, as its container starts it."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.following"],
            cwd=ROOT,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def options_of(registry: ModelRegistry, url: str, bundles: Path) -> dict[str, str]:
    return {
        "VISIONOPS_MODEL": "cells@champion",
        "VISIONOPS_REGISTRY": registry.tracking_uri,
        "VISIONOPS_SERVER": url,
        "VISIONOPS_BUNDLES": str(bundles),
        "VISIONOPS_ADMIN_KEY": KEY,
    }


def refused(url: str) -> int:
    """Return how many models the server has refused to load."""
    lines = requests.get(f"{url}/metrics", timeout=10).text.splitlines()
    return sum(int(float(line.split()[-1])) for line in lines if re.match(r"visionops_rejected.*_total\{", line))


def test_the_server_follows_the_alias(tmp_path, capsys):
    registry = ModelRegistry(make_tracking(tmp_path))
    bundles = tmp_path / "served"
    with server(tmp_path) as url:
        options = options_of(registry, url, bundles)
        follower = Follower(FollowOptions.parse([], options))

        def served() -> tuple[str, str]:
            answer = requests.get(f"{url}/model", timeout=10).json()
            return answer["version"], answer["alias"]

        assert follower.follow() is None  # nothing has the alias yet
        assert main(["--check"], options) == 0
        first = add_version(registry, "cells", tmp_path, 1.0)
        registry.promote(first)
        assert main(["--check"], options) == 2
        assert follower.follow().version == "1"
        assert served() == ("1", "champion")
        assert follower.follow() is None
        assert main(["--check"], options) == 0

        second = add_version(registry, "cells", tmp_path, 1.5)
        assert follower.follow() is None  # a challenger
        registry.promote(second)
        (bundles / "draft-interrupted").mkdir()

        def interrupt(seconds: float) -> None:
            assert seconds == 10
            raise KeyboardInterrupt

        capsys.readouterr()
        assert main([], options, interrupt) == 0
        assert capsys.readouterr().out == f"{url} serves cells version 2 (champion)\n"
        assert served() == ("2", "champion")
        assert [path.name for path in bundles.iterdir()] == [second.digest]

        registry.rollback("cells")
        assert follower.follow().version == "1"
        requests.post(f"{url}/unload", json={"name": "cells"}, headers={"X-API-Key": KEY}, timeout=10)
        with pytest.raises(DeploymentError, match=r"/reload: 401 .*"):
            Follower(FollowOptions.parse([], options | {"VISIONOPS_ADMIN_KEY": "wrong"})).follow()
        assert follower.follow().version == "1"  # as after a restart of the server

    with pytest.raises(DeploymentError, match="does not answer"):
        follower.follow()
    said = []

    def twice(_: float) -> None:
        said.append(capsys.readouterr().out)
        if len(said) == 2:
            raise KeyboardInterrupt

    assert main([], options, twice) == 0
    assert "will try again: http://127.0.0.1" in said[0]
    assert said[1] == ""  # once


def test_no_request_fails_while_the_alias_moves(tmp_path):
    registry = ModelRegistry(make_tracking(tmp_path))
    first, second, third = (add_version(registry, "cells", tmp_path, gain) for gain in (1.0, 1.5, 1.75))
    registry.promote(first)
    log = tmp_path / "following.log"
    with server(tmp_path) as url:
        options = options_of(registry, url, tmp_path / "served") | {"VISIONOPS_EVERY": "0.2"}
        with following(options, log) as process:
            until(lambda: requests.get(f"{url}/ready", timeout=10).ok or process.poll() is not None)
            assert process.poll() is None, log.read_text()
            image = encode(picture([("red", 2, 1)]))
            moves = {
                "2": lambda: registry.promote(second),
                "3": lambda: registry.promote(third),
                "2 again": lambda: registry.rollback("cells"),
            }
            with load_of(urlsplit(url).port, image, clients=2) as load:
                for version, move in moves.items():
                    load.wait_for(10)
                    move()
                    until(lambda version=version: load.cut_off or load.answers[-1][0] == version[0])
                load.wait_for(10)
            assert not load.refusals
            assert not load.cut_off
            answered = [version for version, _ in load.answers]
            assert set(answered) == {"1", "2", "3"}
            process.terminate()
            assert process.wait(60) == 0
    switched = [line.split(" version ")[1] for line in log.read_text().splitlines() if " serves cells " in line]
    assert switched == [f"{version} (champion)" for version in ("1", "2", "3", "2")]


def test_a_model_that_cannot_answer_is_refused_and_the_old_one_stays(tmp_path):
    registry = ModelRegistry(make_tracking(tmp_path))
    bundles = tmp_path / "served"
    with server(tmp_path) as url:
        given = {"VISIONOPS_ENGINE": "onnxruntime", "VISIONOPS_MAX_UPLOAD_BYTES": "1000000"}
        now = 0.0
        follower = Follower(FollowOptions.parse([], options_of(registry, url, bundles) | given), lambda: now)
        first = add_version(registry, "cells", tmp_path, 1.0)
        registry.promote(first)
        follower.follow()
        described = requests.get(f"{url}/model", timeout=10).json()
        assert (described["engine"], described["max_upload_bytes"]) == ("onnxruntime", 1_000_000)

        registry.promote(add_version(registry, "cells", tmp_path, 1.5, graph_classes=5))
        with pytest.raises(DeploymentError, match=r"/reload: 4\d\d (bad_bundle|smoke_test_failed): "):
            follower.follow()
        sent = []
        for now in (1, 9, 10, 29, 30, 69, 70, 149):
            before = refused(url)
            with pytest.raises(DeploymentError, match=r"/reload: 4\d\d (bad_bundle|smoke_test_failed): "):
                follower.follow()
            sent += [now] * (refused(url) - before)
        assert sent == [10, 30, 70]  # loaded again after 10, 20 and 40 s, and refused at once in between
        served = requests.get(f"{url}/model", timeout=10).json()
        assert (served["version"], served["digest"]) == ("1", first.digest)
        image = encode(picture([("red", 2, 1)]))
        assert requests.post(f"{url}/predict", image, headers={"Content-Type": "image/png"}, timeout=60).ok
        assert (bundles / first.digest).is_dir()

        registry.rollback("cells")
        assert follower.follow() is None


@pytest.mark.parametrize(
    ("model", "name", "alias"),
    [
        ("cells", "cells", "champion"),
        ("cells@challenger", "cells", "challenger"),
        ("team@site@champion", "team@site", "champion"),
    ],
)
def test_a_model_is_a_name_and_an_alias(model, name, alias):
    options = FollowOptions.parse(["--model", model])
    assert (options.name, options.alias) == (name, alias)


@pytest.mark.parametrize(
    ("arguments", "environment", "line"),
    [
        ([], {}, "--model: is missing; give NAME@ALIAS, such as steel@champion"),
        (["--model", "@champion"], {}, "--model: has no name; expected NAME@ALIAS (got '@champion')"),
        (["--model", "cells@"], {}, "--model: has no alias; expected NAME@ALIAS (got 'cells@')"),
        (["--model", ""], {}, "--model: has no name; expected NAME@ALIAS (got '')"),
        ([], {"VISIONOPS_MODEL": " @ "}, "VISIONOPS_MODEL: has no name; expected NAME@ALIAS (got ' @ ')"),
    ],
)
def test_an_incomplete_model_is_one_line(arguments, environment, line, capsys):
    assert main(arguments, {"VISIONOPS_ADMIN_KEY": KEY, **environment}) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_registry_that_is_gone(tmp_path):
    options = FollowOptions(model="cells", registry=f"http://127.0.0.1:{free_port()}", bundles=tmp_path)
    with pytest.raises(RegistryError, match="does not answer"):
        Follower(options).follow()
