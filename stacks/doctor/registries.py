"""Check registries of container images through ``/v2/``, with the logins of docker and podman."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

import requests

from stacks.doctor.findings import CheckResult, Examined, broken, ok, warning
from stacks.doctor.web import ask
from visionops.errors import StackError

__all__ = ["check_container_registry", "check_image"]

_HUB = "docker.io"
_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, "
    "application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.docker.distribution.manifest.v2+json"
)
_CHALLENGE = re.compile(r'(\w+)="([^"]*)"')


class _Refused(StackError):
    """The registry refuses the login, or requires one."""


class _Registry(NamedTuple):
    host: str
    url: str

    @classmethod
    def of(cls, host: str) -> _Registry:
        plain = host.partition(":")[0] in {"localhost", "127.0.0.1"}
        return cls(host, f"{'http' if plain else 'https'}://{'registry-1.docker.io' if host == _HUB else host}/v2/")


def check_container_registry(examined: Examined) -> Iterator[CheckResult]:
    """Check the registry to which ZenML pushes the images of steps."""
    uri = str(examined.component.configuration.get("uri", ""))
    registry = _Registry.of(_split(f"{uri.rstrip('/')}/x")[0])
    secret = examined.component.configuration.get("authentication_secret")
    try:
        login = (str(secret["username"]), str(secret["password"])) if secret else _login(registry.host)
        answer = _ask(registry, "", login)
    except StackError as error:
        yield _failed(registry, error)
        return
    if not answer.ok:
        yield broken(f"{registry.url}: not an image registry ({answer.status_code})", "correct VISIONOPS_REGISTRY")
    else:
        yield ok(f"{registry.host}: answers" + (f", to {login[0]}" if login else ", without a login"))


def check_image(image: str) -> Iterator[CheckResult]:
    """Check that the registry has an image; an unreachable registry is a warning, as only the nodes must reach it."""
    host, rest = _split(image)
    registry = _Registry.of(host)
    name, _, tag = rest.partition("@") if "@" in rest else rest.partition(":")
    repository = f"library/{name}" if host == _HUB and "/" not in name else name
    try:
        answer = _ask(registry, f"{repository}/manifests/{tag or 'latest'}", _login(host), repository)
    except StackError as error:
        yield warning(
            f"image {image}: not checked ({_failed(registry, error).observed})", "check that the nodes can pull it"
        )
        return
    if answer.status_code == 404:
        yield broken(f"image {image}: not in {host}", "build it (make images) and push it, or set another")
    elif answer.ok:
        yield ok(f"image {image}: is in its registry")
    else:
        yield warning(
            f"image {image}: {host} gives no answer about it ({answer.status_code})", "check that the nodes can pull it"
        )


def _split(image: str) -> tuple[str, str]:
    from docker.auth import resolve_repository_name
    from docker.errors import InvalidRepository

    try:
        host, rest = resolve_repository_name(image)
    except InvalidRepository as error:
        raise StackError(f"{image}: invalid image name ({error}); expected host/name:tag") from error
    return host, rest


def _login(host: str) -> tuple[str, str] | None:
    """Return the login that `docker login` or `podman login` stored for a host."""
    from docker.auth import load_config
    from docker.errors import DockerException

    try:
        for path in (None, *filter(os.path.exists, _podman_logins())):
            found = load_config(path).resolve_authconfig(host) or {}
            if user := found.get("Username") or found.get("username"):
                return str(user), str(found.get("Password") or found.get("password") or "")
    except DockerException as error:
        raise StackError(f"cannot read its login ({error})") from error
    return None


def _podman_logins() -> list[str]:
    runtime = os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    named = os.environ.get("REGISTRY_AUTH_FILE")
    return [named] if named else [f"{runtime}/containers/auth.json", "/run/containers/0/auth.json"]


def _ask(registry: _Registry, path: str, login: tuple[str, str] | None, repository: str = "") -> requests.Response:
    """Send a request, with a token if the registry wants one.

    Raises:
        StackError: The registry does not answer, or refuses the login.
    """
    accept = {"Accept": _MANIFESTS}
    method = "HEAD" if path else "GET"
    answer = ask(registry.url + path, method=method, headers=accept)
    if answer.status_code != 401:
        return answer
    challenge = answer.headers.get("WWW-Authenticate", "")
    if challenge.lower().startswith("basic"):
        if login:
            answer = ask(registry.url + path, method=method, headers=accept, login=login)
    elif challenge.lower().startswith("bearer"):
        wanted = dict(_CHALLENGE.findall(challenge))
        query = {"service": wanted.get("service", "")}
        if repository:
            query["scope"] = f"repository:{repository}:pull"
        given = ask(wanted["realm"], parameters=query, login=login)
        if given.ok:
            token = given.json().get("token") or given.json().get("access_token")
            answer = ask(registry.url + path, method=method, headers=accept | {"Authorization": f"Bearer {token}"})
    if answer.status_code in {401, 403}:
        raise _Refused(f"refuses the login of {login[0]}" if login else "requires a login")
    return answer


def _failed(registry: _Registry, error: StackError) -> CheckResult:
    if isinstance(error, _Refused):
        return broken(f"{registry.host}: {error}", f"docker login {registry.host} (or podman login)")
    if "plain HTTP" in str(error):
        return broken(
            f"{registry.url}: {error}",
            "give it a certificate, or list it as an insecure registry in the engine's configuration",
        )
    return broken(f"{registry.url}: does not answer ({error})", "start it, or correct VISIONOPS_REGISTRY")
