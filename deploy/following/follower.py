"""Compare the model of a server with the model registry, and switch the server if they differ."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import requests

from deploy.following.options import FollowOptions
from visionops.errors import DeploymentError
from visionops.inference.bundle import ModelBundle
from visionops.registry import ModelRegistry, RegisteredVersion

__all__ = ["Follower"]

_PATIENCE_SECONDS = 10.0
_HOW_TO_SERVE = {"engine", "device", "confidence", "iou", "max_upload_bytes"}
"""Options that are sent to the server with each model."""
_LONGEST_PAUSE_SECONDS = 600.0
"""Longest pause before a model that the server has refused is sent to it again."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Refusal:
    """The last refusal of a model. Each attempt loads the model, which costs a busy server much of its speed."""

    digest: str
    reason: str
    pause: float
    until: float


class Follower:
    """Keep one server on the version that has an alias.

    The follower always reads the current version from the server, so a restarted server gets its model again.

    Args:
        clock: Function that returns the time in seconds.
    """

    def __init__(self, options: FollowOptions, clock: Callable[[], float] = time.monotonic) -> None:
        self._options = options
        self._clock = clock
        self._refusal: _Refusal | None = None
        self._registry = ModelRegistry(options.registry)
        self._key = {"X-API-Key": options.admin_key.get_secret_value()} if options.admin_key else {}

    def wanted(self) -> RegisteredVersion | None:
        """Return the version that has the alias; None if no version has it yet.

        Raises:
            RegistryError: The registry does not answer.
        """
        return self._registry.by_alias(self._options.name, self._options.alias)

    def serves(self, version: RegisteredVersion) -> bool:
        """Return whether the server answers with ``version``.

        Raises:
            DeploymentError: The server does not answer, or refuses the key.
        """
        answer = self._request("GET", "/model", params={"model": self._options.name})
        if answer.status_code in {404, 503}:
            return False
        served = _json(answer)
        return (served.get("version"), served.get("digest")) == (version.version, version.digest)

    def follow(self) -> RegisteredVersion | None:
        """Switch the server to the version that has the alias.

        A version that the server has refused is sent again after a pause, which doubles each time.

        Returns:
            The version if the server was switched; None if it already serves it.

        Raises:
            RegistryError: The registry does not answer.
            BundleError: The version's bundle is corrupt.
            DeploymentError: The server does not answer, or refuses the model and keeps serving the previous one.
        """
        version = self.wanted()
        if version is None or self.serves(version):
            return None
        last = self._refusal if self._refusal and self._refusal.digest == version.digest else None
        if last and self._clock() < last.until:
            raise DeploymentError(last.reason)
        bundle = self._fetched(version)
        order = self._order(version, bundle)
        try:
            _json(self._request("POST", "/reload", json=order, seconds=self._options.patience))
        except DeploymentError as error:
            pause = min(2 * last.pause, _LONGEST_PAUSE_SECONDS) if last else self._options.every
            self._refusal = _Refusal(version.digest, str(error), pause, self._clock() + pause)
            raise
        for other in self._options.bundles.iterdir():
            if other != bundle:
                shutil.rmtree(other, ignore_errors=True)
        return version

    def _order(self, version: RegisteredVersion, bundle: Path) -> dict[str, Any]:
        order = {"name": version.name, "version": version.version, "alias": self._options.alias, "bundle": str(bundle)}
        return order | self._options.model_dump(mode="json", include=_HOW_TO_SERVE)

    def _fetched(self, version: RegisteredVersion) -> Path:
        """Download the version's bundle, if it is not there yet, and return its complete folder."""
        folder = self._options.bundles.absolute()
        folder.mkdir(parents=True, exist_ok=True)
        place = folder / version.digest
        if not place.is_dir():
            with tempfile.TemporaryDirectory(prefix="draft-", dir=folder) as draft:
                bundle: ModelBundle = self._registry.fetch_bundle(version, Path(draft))
                bundle.folder.replace(place)
        return place

    def _request(self, method: str, path: str, seconds: float = _PATIENCE_SECONDS, **given: Any) -> requests.Response:
        try:
            return requests.request(
                method, self._options.server.rstrip("/") + path, headers=self._key, timeout=seconds, **given
            )
        except requests.RequestException as error:
            raise DeploymentError(
                f"{self._options.server}: does not answer ({type(error).__name__}); check that the server runs"
            ) from error


def _json(answer: requests.Response) -> Mapping[str, Any]:
    try:
        content: dict[str, Any] = answer.json()
    except requests.JSONDecodeError:
        content = {}
    if not answer.ok:
        said = content.get("error", {})
        raise DeploymentError(f"{answer.url}: {answer.status_code} {said.get('code', '')}: {said.get('message', '')}")
    return content
