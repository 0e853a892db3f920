"""The model registry: who is champion, who may become it, and how to go back.

A thin layer over MLflow's registry and its aliases:

    challenger   the newest version, not (yet) good enough
    champion     the version that is served; there is never more than one
    previous     the champion before it

The chain of champions is kept as a tag on each version (`visionops.replaced`), written *before* the alias moves: an
alias moves atomically, so an interruption at any point leaves one champion and a way back.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from visionops.config import GateConfig
from visionops.errors import RegistryError
from visionops.inference.bundle import ModelBundle
from visionops.tasks.base import Evaluation

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["CHALLENGER", "CHAMPION", "PREVIOUS", "GateDecision", "ModelRegistry", "RegisteredVersion", "decide"]

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"

_DIGEST = "visionops.digest"
_REPLACED = "visionops.replaced"
_ROLLED_BACK = "visionops.rolled_back"
_TEST = "visionops.test_fingerprint"

_ROUNDING = 1e-9
"""0.82 - 0.80 is a little less than 0.02 in binary."""


class GateDecision(BaseModel):
    """Whether a challenger becomes champion, and why."""

    model_config = ConfigDict(frozen=True)

    promote: bool
    reason: str
    """One sentence with the numbers."""
    metric: str
    challenger: float
    champion: float | None = None
    """The present champion's figure on the same test split; None when there is no champion."""
    minimum: float
    margin: float
    """By how much the champion had to be beaten; below 0, by how much it might be missed."""


class RegisteredVersion(BaseModel):
    """One version of a registered model."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    digest: str
    """Of its bundle."""
    aliases: tuple[str, ...]
    tags: dict[str, str]
    created: datetime.datetime
    """When it was registered; aware."""

    def test_metric(self, name: str) -> float | None:
        """Its figure on the test split that it was first judged by; None where it was not measured."""
        value = self.tags.get(f"test.{name}")
        return None if value is None else float(value)

    @property
    def rolled_back(self) -> bool:
        """Whether a person took this version out of service; it is not promoted again by itself."""
        return _ROLLED_BACK in self.tags


def decide(
    challenger: Evaluation, champion: Evaluation | None, gate: GateConfig, *, max_loss: float | None = None
) -> GateDecision:
    """Judge a challenger: first the absolute gate, then the champion on the same test split.

    Args:
        max_loss: Of a challenger that is the cheaper one, as a quantized one: by how much it may miss the champion's
            figure. Without it the champion must be beaten by the gate's margin.

    Raises:
        RegistryError: The two were scored on different test splits, so their figures do not compare.
    """
    if champion is not None and champion.test_fingerprint != challenger.test_fingerprint:
        raise RegistryError(
            "challenger and champion were scored on different test splits; score both on the present one"
        )
    name, value = gate.metric, challenger.metrics[gate.metric]
    best = champion.metrics[name] if champion else None
    margin = gate.margin if max_loss is None else -max_loss
    if not value >= gate.minimum:  # so that NaN is refused too
        promote, reason = False, f"refused: {name} {value:.3f} is below the gate of {gate.minimum:.3f}"
    elif champion is None:
        promote, reason = (
            True,
            f"promoted: {name} {value:.3f} passes the gate of {gate.minimum:.3f}; the first champion",
        )
    else:
        promote, reason = _compare(challenger, champion, gate, max_loss)
    return GateDecision(
        promote=promote,
        reason=reason,
        metric=name,
        challenger=value,
        champion=best,
        minimum=gate.minimum,
        margin=margin,
    )


def _compare(
    challenger: Evaluation, champion: Evaluation, gate: GateConfig, max_loss: float | None
) -> tuple[bool, str]:
    """Whether the challenger holds out against the champion, and why."""
    name, value, best = gate.metric, challenger.metrics[gate.metric], champion.metrics[gate.metric]
    figures = f"{name} {value:.3f}"
    if max_loss is None:
        margin = gate.margin
        beats, fails = f"beats the champion's {best:.3f}", f"does not beat the champion's {best:.3f} by {margin:.3f}"
        within = f"{beats} by {margin:.3f} or more"
    else:
        margin = -max_loss
        within = beats = f"is within {max_loss:.3f} of the champion's {best:.3f}"
        fails = f"misses the champion's {best:.3f} by more than {max_loss:.3f}"
    if value - best < margin - _ROUNDING:
        return False, f"refused: {figures} {fails}"
    ahead = _share_ahead(challenger, champion, name, max_loss)
    if ahead is None:
        return True, f"promoted: {figures} {within}"
    if ahead < gate.confidence:
        return False, (
            f"refused: {figures} {beats}, but in only {ahead:.0%} of resamples of the "
            f"{challenger.num_images} test images ({gate.confidence:.0%} needed): that may be chance"
        )
    return True, f"promoted: {figures} {within}, in {ahead:.0%} of resamples of the test images"


def _share_ahead(challenger: Evaluation, champion: Evaluation, metric: str, max_loss: float | None) -> float | None:
    """In what share of paired bootstrap resamples of the test images the challenger is ahead; ties count for half.

    With ``max_loss``: in what share it misses the champion by no more. None where one of the two was not resampled as
    the other was.
    """
    ours = challenger.replicates.get(metric, ())
    theirs = champion.replicates.get(metric, ())
    if len(ours) != len(theirs):
        return None
    # A resample may lack a class, and with it the figure: it says nothing of who is ahead.
    pairs = [(o, t) for o, t in zip(ours, theirs, strict=True) if not (math.isnan(o) or math.isnan(t))]
    if not pairs:
        return None
    if max_loss is not None:
        return sum(o - t >= -max_loss - _ROUNDING for o, t in pairs) / len(pairs)
    return sum((o > t) + 0.5 * (o == t) for o, t in pairs) / len(pairs)


class ModelRegistry:
    """The registry at one tracking URI.

    Every method raises `RegistryError` when the registry does not answer.
    """

    def __init__(self, tracking_uri: str) -> None:
        # MLflow's defaults wait for minutes on a dead server; a person waits for one line.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
        self.tracking_uri = tracking_uri

    def ping(self) -> None:
        """Ask for something small, so that a dead registry is known before hours of training."""
        with self._client() as client:
            client.search_registered_models(max_results=1)

    def by_alias(self, name: str, alias: str) -> RegisteredVersion | None:
        """The version that carries ``alias``, or None."""
        with self._client() as client:
            return self._by_alias(client, name, alias)

    def by_digest(self, name: str, digest: str) -> RegisteredVersion | None:
        """The version made from the bundle with this digest, or None."""
        with self._client() as client:
            found = client.search_model_versions(f"name = '{name}' and tags.`{_DIGEST}` = '{digest}'")
            return self._read(client, name, found[0].version) if found else None

    def newest(self, name: str) -> RegisteredVersion | None:
        """The version that was registered last, whatever became of it."""
        with self._client() as client:
            found = client.search_model_versions(
                f"name = '{name}'", max_results=1, order_by=["creation_timestamp DESC"]
            )
            return self._read(client, name, found[0].version) if found else None

    def register(self, name: str, model_uri: str, bundle: ModelBundle, evaluation: Evaluation) -> RegisteredVersion:
        """Make a new version of the logged model, the challenger.

        Args:
            model_uri: Of the logged pyfunc, complete.
        """
        import mlflow

        tags = {_DIGEST: bundle.digest, _TEST: evaluation.test_fingerprint}
        tags |= {f"test.{key}": f"{value:.6f}" for key, value in evaluation.metrics.items()}
        with self._client() as client:
            mlflow.set_registry_uri(self.tracking_uri)
            with contextlib.redirect_stderr(io.StringIO()):  # it announces itself there, under our progress bars
                made = mlflow.register_model(model_uri, name, tags=tags)
            client.set_registered_model_alias(name, CHALLENGER, made.version)
            return self._read(client, name, made.version)

    def record(self, version: RegisteredVersion, decision: GateDecision) -> None:
        """Write the decision and its numbers onto the version, as tags."""
        with self._client() as client:
            for key, value in decision.model_dump().items():
                client.set_model_version_tag(version.name, version.version, f"gate.{key}", str(value))

    def promote(self, version: RegisteredVersion) -> RegisteredVersion:
        """Make ``version`` the champion; the old one becomes ``previous``."""
        with self._client() as client:
            old = self._by_alias(client, version.name, CHAMPION)
            if old is None or old.version != version.version:
                client.set_model_version_tag(version.name, version.version, _REPLACED, old.version if old else "")
                client.set_registered_model_alias(version.name, CHAMPION, version.version)
            promoted = self._read(client, version.name, version.version)
            self._mend_previous(client, promoted)
            if CHALLENGER in promoted.aliases:
                client.delete_registered_model_alias(version.name, CHALLENGER)
            return self._read(client, version.name, version.version)

    def champion(self, name: str) -> RegisteredVersion:
        """The champion.

        Raises:
            RegistryError: There is none.
        """
        if champion := self.by_alias(name, CHAMPION):
            return champion
        raise RegistryError(f"{name}: has no champion; run --pipeline training first")

    def before_champion(self, name: str) -> RegisteredVersion:
        """The champion before the present one.

        Raises:
            RegistryError: There is no champion, or none before it.
        """
        champion = self.champion(name)
        before = champion.tags.get(_REPLACED)
        if not before:
            raise RegistryError(
                f"{name}: version {champion.version} is the first champion, there is none to go back to"
            )
        with self._client() as client:
            return self._read(client, name, before)

    def rollback(self, name: str) -> RegisteredVersion:
        """Put the champion before the present one back; the present one is not promoted again by itself.

        Raises:
            RegistryError: There is no champion, or none before it.
        """
        bad, good = self.champion(name), self.before_champion(name)
        with self._client() as client:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            client.set_model_version_tag(name, bad.version, _ROLLED_BACK, now)
            client.set_registered_model_alias(name, CHAMPION, good.version)
            self._mend_previous(client, good)
            return self._read(client, name, good.version)

    def fetch_bundle(self, version: RegisteredVersion, folder: Path) -> ModelBundle:
        """Bring the bundle of a version into ``folder`` and check it.

        Raises:
            BundleError: It is corrupt.
        """
        import mlflow

        with self._client() as client:
            source = client.get_model_version_download_uri(version.name, version.version)
            mlflow.set_tracking_uri(self.tracking_uri)
            folder.mkdir(parents=True, exist_ok=True)
            local = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(folder)))
        cards = sorted(local.glob("*/*/bundle.json"))
        if not cards:
            raise RegistryError(f"{version.name} version {version.version}: its model holds no bundle; train again")
        return ModelBundle.load(cards[0].parent)

    @contextlib.contextmanager
    def _client(self) -> Iterator[MlflowClient]:
        import sqlalchemy.exc
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            yield MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
        except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            address = _without_password(self.tracking_uri)
            cause = str(error).strip().splitlines()[0].replace(self.tracking_uri, address)[:200]
            raise RegistryError(
                f"model registry {address}: does not answer ({cause}); "
                "check the address in the stack file and that the server runs"
            ) from error

    @staticmethod
    def _mend_previous(client: MlflowClient, champion: RegisteredVersion) -> None:
        before = champion.tags.get(_REPLACED)
        if before:
            client.set_registered_model_alias(champion.name, PREVIOUS, before)
        elif PREVIOUS in client.get_registered_model(champion.name).aliases:
            client.delete_registered_model_alias(champion.name, PREVIOUS)

    def _by_alias(self, client: MlflowClient, name: str, alias: str) -> RegisteredVersion | None:
        from mlflow.exceptions import MlflowException

        try:
            found = client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return self._read(client, name, found.version)

    @staticmethod
    def _read(client: MlflowClient, name: str, version: str) -> RegisteredVersion:
        found: ModelVersion = client.get_model_version(name, version)
        tags = dict(found.tags)
        return RegisteredVersion(
            name=name,
            version=str(found.version),
            digest=tags.get(_DIGEST, ""),
            aliases=tuple(found.aliases),
            tags=tags,
            created=datetime.datetime.fromtimestamp(found.creation_timestamp / 1000, datetime.UTC),
        )


def _without_password(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
