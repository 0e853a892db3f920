"""``python -m deploy.demo up | drill | down``: start everything, train and serve; raise an alert; remove everything."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import requests

from deploy.demo.compose import Compose, Service, check_ports, find_compose, read_services
from deploy.demo.places import CONSOLE_ADMIN, Places, write_client
from deploy.demo.secret_file import CONSOLE_PASSWORD, read_secrets, write_secrets
from deploy.pushgateway import write_access
from visionops.errors import DeploymentError, VisionOpsError

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[2]
_FOLDER = ROOT / ".demo"
_PROFILES = ("console", "follow", "review")
_OPTIONAL = ("alertmanager", "console", "control", "grafana", "intake", "prometheus")
_IMAGES = 40
_PATIENCE = 600.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the three commands.

    Returns:
        2 if the command fails; the reason is printed in one line.
    """
    parser = argparse.ArgumentParser(prog="python -m deploy.demo", description="The whole system on one host.")
    parser.add_argument("what", choices=["up", "drill", "down"], help="start and train; raise an alert; remove all")
    parser.add_argument(
        "--without", action="append", default=[], choices=_OPTIONAL, help="leave a service out; repeatable"
    )
    parser.add_argument("--airflow", action="store_true", help="with up: also start Airflow")
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="with up: a training setting; repeatable"
    )
    given = parser.parse_args(arguments)
    try:
        if given.what == "down":
            _down(find_compose())
        else:
            profiles = (*_PROFILES, "airflow") if given.airflow else _PROFILES
            _up(profiles, given.without, given.set) if given.what == "up" else _drill()
    except (VisionOpsError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; run the same command to continue, or make demo-down to remove everything\n")
        return 130
    return 0


def _up(profiles: Sequence[str], without: Sequence[str], settings: Sequence[str]) -> None:
    if "control" in without and "console" not in without:
        raise DeploymentError("the console needs the control service, which starts its runs; add --without console")
    compose = find_compose()
    chosen = {name: value for name, value in os.environ.items() if name.startswith("VISIONOPS_")}
    chosen = {name: value for name, value in chosen.items() if name.endswith(("_PORT", "_IMAGE", "_WEBHOOK"))}
    variables = chosen | read_secrets(_FOLDER / "secrets.env")
    services = {
        name: service
        for name, service in read_services(variables).items()
        if name not in without and (not service.profiles or set(service.profiles) & set(profiles))
    }
    _require_images(compose, list(services.values()))
    if not compose.containers():
        check_ports(list(services.values()))
    access = _FOLDER / "pushgateway"
    if not access.exists():
        _FOLDER.mkdir(mode=0o700, exist_ok=True)
        write_access(access)
    given = {
        "VISIONOPS_NAME": "sample",
        "VISIONOPS_PUSHGATEWAY_ACCESS": str(access),
        "VISIONOPS_PUSHGATEWAY_PASSWORD": (access / "client" / "password").read_text(encoding="utf-8"),
    }
    variables = write_secrets(_FOLDER / "secrets.env", chosen | given)
    (_FOLDER / "services.json").write_text(json.dumps({"profiles": list(profiles), "services": list(services)}))
    places = Places(_FOLDER, variables, services)
    _say(f"starting {', '.join(services)} with {' '.join(compose.command)}")
    compose.run(["up", "-d", *(name for name in services if name != "console")], profiles, variables)
    _await(lambda: [n for n in places.not_well() if n != "console"], lambda names: f"waiting for {', '.join(names)}")
    write_client(_FOLDER / "client.env", places.environment())
    if "control" in services:
        _say("applying the stack onehost, which the control service uses")
        compose.run(["exec", "-T", "control", "python", "-m", "stacks.apply", "onehost"], profiles, variables)
    if "console" in services:
        _start_console(compose, profiles, variables)
        _await(places.not_well, lambda names: f"waiting for {', '.join(names)}")
    _say("training configs/sample.yaml on the stack staging")
    summary = _FOLDER / "summary.json"
    words = [word for setting in ("serving.port=0", *settings) for word in ("--set", setting)]
    _run(places, "--stack", "staging", *words, "--summary", str(summary))
    _await(lambda: [] if places.serves_a_model() else ["serving"], lambda _: "waiting for the server to load the model")
    image = Path(json.loads(summary.read_text(encoding="utf-8"))["sample_image"])
    _say(f"{_predict(places, _FOLDER / 'home' / 'data')} images predicted by {places.url('serving')}")
    sys.stdout.write("\n" + "\n".join(places.table()) + "\n\n")
    sys.stdout.write(
        f"predict:  curl -H \"X-API-Key: $(sed -n 's/^VISIONOPS_DEMO_KEY=//p' {_FOLDER}/secrets.env)\" "
        f"-F file=@{image} {places.url('serving')}/predict\n"
        f"a run:    . {_FOLDER}/client.env && .venv/bin/python run.py --stack staging …\n"
        "an alert: make demo-drill\nremove:   make demo-down\n"
    )


def _start_console(compose: Compose, profiles: Sequence[str], variables: Mapping[str, str]) -> None:
    """Start the console with its first user; without a user, it accepts requests from its own container only."""
    users = ["exec", "-T", "control", "python", "-m", "launch.cli", "user"]
    if CONSOLE_ADMIN not in compose.run([*users, "list"], profiles, variables).split():
        _say(f"adding {CONSOLE_ADMIN}, the console's first user")
        entered = f"{variables[CONSOLE_PASSWORD]}\n"
        compose.run(
            [*users, "add", CONSOLE_ADMIN, "--role", "admin", "--password-file", "-"], profiles, variables, entered
        )
    compose.run(["up", "-d", "--no-deps", "console"], profiles, variables)


def _drill() -> None:
    places = _running()
    _run(places, "--stack", "staging", "--pipeline", "drift-drill", "--kind", "brightness", "--severity", "2")
    _run(places, "--stack", "staging", "--pipeline", "monitoring")

    def alerts() -> list[str]:
        answer = requests.get(f"{places.url('alertmanager')}/api/v2/alerts", timeout=10)
        answer.raise_for_status()
        return [f"{a['labels']['alertname']} ({a['labels'].get('severity', '')})" for a in answer.json()]

    try:
        _await(lambda: [] if alerts() else ["alert"], lambda _: "waiting for the alert")
        _say(f"{places.url('alertmanager')} has {', '.join(sorted(alerts()))}")
    except requests.RequestException as error:
        raise DeploymentError(f"{places.url('alertmanager')}: does not answer ({type(error).__name__})") from error


def _down(compose: Compose) -> None:
    file = _FOLDER / "secrets.env"
    variables = read_secrets(file)
    if not variables and not compose.containers():
        _say(f"nothing to remove: {_FOLDER} does not exist and no container of the demo runs")
        return
    for record in sorted((_FOLDER / "home" / "containers").glob("*/*.json")):
        found = json.loads(record.read_text(encoding="utf-8"))
        if isinstance(found, dict) and "container" in found:
            compose.remove([found["container"]])
    if variables:
        compose.run(["down", "--volumes", "--timeout", "10"], (*_PROFILES, "airflow"), variables)
    compose.remove(compose.containers())
    if left := compose.leftovers():
        raise DeploymentError(
            f"not removed: {', '.join(left)}; run {compose.engine} volume rm, {compose.engine} network rm"
        )
    shutil.rmtree(_FOLDER, ignore_errors=True)
    _say("containers, volumes, networks and .demo are removed; images stay")


def _running() -> Places:
    variables = read_secrets(_FOLDER / "secrets.env")
    try:
        known = json.loads((_FOLDER / "services.json").read_text(encoding="utf-8"))["services"]
    except FileNotFoundError:
        raise DeploymentError("the demo is not running; start it with make demo") from None
    return Places(_FOLDER, variables, {n: s for n, s in read_services(variables).items() if n in known})


def _require_images(compose: Compose, services: Sequence[Service]) -> None:
    for image in dict.fromkeys(service.image for service in services):
        if compose.has_image(image):
            continue
        if image.startswith("localhost/"):
            raise DeploymentError(f"{image}: {compose.engine} has no such image; build it with make images")
        _say(f"pulling {image}")
        try:
            compose.pull(image)
        except DeploymentError as error:
            names = [service.name for service in services if service.image == image]
            hint = f'; make demo ARGS="--without {names[0]}" leaves it out' if names[0] in _OPTIONAL else ""
            raise DeploymentError(f"{error}{hint}") from error


def _run(places: Places, *words: str) -> None:
    """Run run.py in the demo's environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("VISIONOPS_", "ZENML_"))}
    command = [sys.executable, "run.py", *words]
    done = subprocess.run(command, cwd=ROOT, check=False, env=environment | places.environment())  # noqa: S603
    if done.returncode != 0:
        raise DeploymentError(f"run.py {' '.join(words)}: exit code {done.returncode}")


def _predict(places: Places, data: Path) -> int:
    """Send sample images to the server, so that its dashboards have data."""
    images = sorted(data.rglob("*.jpg"))[:_IMAGES]
    for image in images:
        answer = requests.post(
            f"{places.url('serving')}/predict", headers=places.key, files={"file": image.read_bytes()}, timeout=60
        )
        if not answer.ok:
            raise DeploymentError(f"{image.name}: {answer.status_code} {answer.text[:200]}")
    return len(images)


def _await(missing: Callable[[], list[str]], line: Callable[[list[str]], str]) -> None:
    begin, said = time.monotonic(), ""
    while names := missing():
        if time.monotonic() - begin > _PATIENCE:
            raise DeploymentError(f"{', '.join(names)}: not healthy after {_PATIENCE:.0f} s; see the container's log")
        if said != (said := line(names)):
            _say(said)
        time.sleep(1)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
