"""The model registry: the champion, its challengers, and the way back.

A thin layer over MLflow's registry and its aliases:

    challenger   the newest version, not (yet) good enough
    champion     the version that is served; there is never more than one
    previous     the champion before it

Each version has its chain of champions as a tag (`visionops.replaced`: the versions before it, the latest first),
written *before* the alias moves. An alias moves atomically, so an interruption at any point leaves one champion and a
way back. A version that was rolled back is skipped on that way and never promoted again.
"""

from __future__ import annotations

import contextlib
import datetime
import io
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict

from visionops.errors import ChampionChangedError, RegistryError
from visionops.evaluation.result import Evaluation
from visionops.gate.decision import GateDecision, decide
from visionops.inference.bundle import ModelBundle
from visionops.inference.settings import Precision

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

__all__ = [
    "CANDIDATE",
    "CHALLENGER",
    "CHAMPION",
    "PREVIOUS",
    "REVIEW",
    "GateDecision",
    "ModelRegistry",
    "RegisteredVersion",
    "brief_waits",
    "decide",
]

CHAMPION = "champion"
CANDIDATE = "candidate"
"""The version that is tried beside the champion while its release is on hold."""
CHALLENGER = "challenger"
PREVIOUS = "previous"
REVIEW = "review"
"""Key below ``training`` on a bundle's card for the review that the model was trained on."""

_DIGEST = "visionops.digest"
_REPLACED = "visionops.replaced"
_ROLLED_BACK = "visionops.rolled_back"
_TEST = "visionops.test_fingerprint"
_PRECISION = "visionops.precision"
_TRAINED = "visionops.trained"
_RELEASE = "visionops.release"
_REVIEW_CASE = "visionops.review_use_case"
_REVIEW_VERSION = "visionops.review_version"

_CHAIN = 100
"""Maximum number of former champions in one tag; the tag of the last one continues the chain."""
_LATEST = 100
"""Number of newest versions among which the last training is searched. The others were quantized from one another."""
_WAITS = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}


@contextlib.contextmanager
def brief_waits() -> Iterator[None]:
    """Let MLflow give up on a dead server soon: its defaults wait for minutes, while a person waits for one line.

    Variables that the environment already sets stay; those added here are removed when the block ends. MLflow reads
    them at each request.
    """
    added = [name for name in _WAITS if name not in os.environ]
    os.environ.update({name: _WAITS[name] for name in added})
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


class RegisteredVersion(BaseModel):
    """One version of a registered model."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    digest: str
    """Digest of its bundle."""
    aliases: tuple[str, ...]
    tags: dict[str, str]
    created: datetime.datetime
    """Registration time, timezone-aware."""

    def test_metric(self, name: str) -> float | None:
        """Return its metric on the test split of its first evaluation, or None if it was not measured."""
        value = self.tags.get(f"test.{name}")
        return None if value is None else float(value)

    @property
    def trained(self) -> datetime.datetime:
        """Time when its weights were trained, timezone-aware. A quantized version has the time of its source."""
        stamp = self.tags.get(_TRAINED)
        return datetime.datetime.fromisoformat(stamp) if stamp else self.created

    def review_version(self, use_case: str) -> int:
        """Return the data version of a use case's review that it was trained on, or 0 if there is none."""
        return int(self.tags.get(_REVIEW_VERSION, 0)) if self.tags.get(_REVIEW_CASE) == use_case else 0

    @property
    def gate_promotes(self) -> bool | None:
        """Decision of the gate; None if it has not been judged."""
        said = self.tags.get("gate.promote")
        return None if said is None else said == "True"

    @property
    def release_text(self) -> str:
        """State of its release, as `visionops.canary.holding.ReleaseState` writes it; "" if it had none."""
        return self.tags.get(_RELEASE, "")

    @property
    def rolled_back(self) -> bool:
        """Whether a person took this version out of service; it is never promoted again automatically."""
        return _ROLLED_BACK in self.tags


class ModelRegistry:
    """The registry at one tracking URI.

    Every method raises `RegistryError` when the registry does not answer.
    """

    def __init__(self, tracking_uri: str) -> None:
        self.tracking_uri = tracking_uri

    def ping(self) -> None:
        """Send a small request, so that a dead registry is noticed before hours of training."""
        with self._client() as client:
            client.search_registered_models(max_results=1)

    def by_alias(self, name: str, alias: str) -> RegisteredVersion | None:
        """Return the version that carries ``alias``, or None."""
        with self._client() as client:
            return self._by_alias(client, name, alias)

    def by_version(self, name: str, version: str) -> RegisteredVersion | None:
        """Return the version with this number, or None."""
        if not version.isdecimal():  # MLflow raises its own error for such a number
            return None
        with self._client() as client:
            return self._find(client, name, version)

    def by_digest(self, name: str, digest: str) -> RegisteredVersion | None:
        """Return the version made from the bundle with this digest, or None."""
        with self._client() as client:
            found = client.search_model_versions(f"name = '{name}' and tags.`{_DIGEST}` = '{digest}'")
            return self._read(client, name, found[0].version) if found else None

    def reviewed(self, use_case: str) -> list[RegisteredVersion]:
        """Return the versions of any model that were trained on a review of ``use_case``, the oldest first."""
        with self._client() as client:
            versions: list[RegisteredVersion] = []
            token = None
            while True:
                # MLflow cannot search for the name of a use case: its filters do not support quotes inside a value.
                page = client.search_model_versions(f"tags.`{_REVIEW_VERSION}` LIKE '%'", page_token=token)
                versions += map(self._from_mlflow, page)
                if not (token := page.token):
                    break
            # A search does not say which aliases a version has.
            ours = [version for version in versions if version.review_version(use_case)]
            found = [self._read(client, version.name, version.version) for version in ours]
        return sorted(found, key=lambda version: (version.created, version.name, int(version.version)))

    def versions(self, name: str, limit: int = _LATEST) -> list[RegisteredVersion]:
        """Return the newest versions, the latest first; an empty list if nothing is registered under this name."""
        with self._client() as client:
            found = client.search_model_versions(
                f"name = '{name}'", max_results=limit, order_by=["creation_timestamp DESC"]
            )
            return [self._read(client, name, version.version) for version in found]

    def note(self, version: RegisteredVersion, tag: str, text: str) -> None:
        """Write a text by a person onto a version, as the tag ``visionops.TAG``."""
        with self._client() as client:
            client.set_model_version_tag(version.name, version.version, f"visionops.{tag}", text)

    def hold(self, version: RegisteredVersion, release: str) -> None:
        """Write the state of a release onto a version, and make it the candidate."""
        with self._client() as client:
            client.set_model_version_tag(version.name, version.version, _RELEASE, release)
            client.set_registered_model_alias(version.name, CANDIDATE, version.version)

    def end_hold(self, version: RegisteredVersion, release: str) -> None:
        """Write how a release ended onto its version and remove the candidate alias from it."""
        with self._client() as client:
            client.set_model_version_tag(version.name, version.version, _RELEASE, release)
            candidate = self._by_alias(client, version.name, CANDIDATE)
            if candidate is not None and candidate.version == version.version:
                client.delete_registered_model_alias(version.name, CANDIDATE)

    def newest_trained(self, name: str) -> RegisteredVersion | None:
        """Return the version of the last training, promoted or not; quantizing a version is not a training."""
        with self._client() as client:
            found = client.search_model_versions(
                f"name = '{name}'", max_results=_LATEST, order_by=["creation_timestamp DESC"]
            )
            versions = [self._from_mlflow(version) for version in found]
            if not versions:
                return None
            # If two versions share one training, take the first: the other was quantized from it.
            last = max(versions, key=lambda version: (version.trained, -version.created.timestamp()))
            return self._read(client, name, last.version)

    @contextlib.contextmanager
    def open_run(self, name: str) -> Iterator[None]:
        """Let MLflow log to this server while the block runs: to the open run if it is here, else to a new one.

        Args:
            name: Name of the experiment; it is created if missing.
        """
        import mlflow

        other = mlflow.active_run()
        if other is not None and mlflow.get_tracking_uri() == self.tracking_uri:
            yield
            return
        with self._client() as client, self._as_tracker():
            experiment = mlflow.set_experiment(name)
            run = client.create_run(experiment.experiment_id, run_name=f"register {name}")
            with mlflow.start_run(run_id=run.info.run_id, nested=True):
                yield
        if other is not None:  # MLflow has one active experiment for all servers
            mlflow.set_experiment(experiment_id=other.info.experiment_id)

    def register(self, name: str, model_uri: str, bundle: ModelBundle, evaluation: Evaluation) -> RegisteredVersion:
        """Register the logged model as a new version, and make it the challenger.

        Args:
            model_uri: URI of the logged pyfunc model.
        """
        import mlflow

        source = bundle.card.training.get("quantization", {}).get("of")
        origin = self.by_digest(name, source) if source else None
        trained = origin.trained if origin else datetime.datetime.now(datetime.UTC)
        tags = {_DIGEST: bundle.digest, _TEST: evaluation.test_fingerprint}
        tags |= {_PRECISION: bundle.card.precision.value, _TRAINED: trained.isoformat()}
        if review := bundle.card.training.get(REVIEW):
            tags |= {_REVIEW_CASE: review["use_case"], _REVIEW_VERSION: str(review["number"])}
        tags |= {f"test.{key}": f"{value:.6f}" for key, value in evaluation.metrics.items()}
        with self._client() as client, self._as_tracker():
            mlflow.set_registry_uri(self.tracking_uri)
            with contextlib.redirect_stderr(io.StringIO()):  # MLflow prints to stderr, below our progress bars
                made = mlflow.register_model(model_uri, name, tags=tags)
            client.set_registered_model_alias(name, CHALLENGER, made.version)
            return self._read(client, name, made.version)

    def record(self, version: RegisteredVersion, decision: GateDecision) -> None:
        """Write the decision and its numbers onto the version, as tags."""
        with self._client() as client:
            for key, value in decision.model_dump().items():
                text = "; ".join(value) if isinstance(value, tuple) else str(value)
                client.set_model_version_tag(version.name, version.version, f"gate.{key}", text)

    def check_champion(self, version: RegisteredVersion, decision: GateDecision) -> None:
        """Raise unless the champion is still the one that ``version`` was compared with in ``decision``.

        ``version`` itself as champion is fine: a run that was killed after its promotion is being completed.

        Raises:
            ChampionChangedError: The champion is now another version.
        """
        champion = self.by_alias(version.name, CHAMPION)
        present = champion.version if champion else None
        if present in (version.version, decision.champion_version):
            return
        compared = f"version {decision.champion_version}" if decision.champion_version else "no champion"
        now = f"version {present} is champion" if present else "there is no champion"
        raise ChampionChangedError(
            f"{version.name}: version {version.version} was compared with {compared}, but now {now}; run again"
        )

    def promote(self, version: RegisteredVersion, decision: GateDecision | None = None) -> RegisteredVersion:
        """Make ``version`` the champion; the old champion becomes ``previous``.

        Args:
            version: A version that was not rolled back.
            decision: The decision that promotes it. The champion is then checked again right before the alias moves.
                The registry has no compare-and-set: two runs within the same milliseconds may both promote.

        Raises:
            RegistryError: ``version`` was rolled back.
            ChampionChangedError: The champion is no longer the one in ``decision``.
        """
        with self._client() as client:
            old = self._by_alias(client, version.name, CHAMPION)
            if old is None or old.version != version.version:
                if self._read(client, version.name, version.version).rolled_back:
                    raise RegistryError(
                        f"{version.name}: version {version.version} was rolled back by hand; train a better one"
                    )
                before = [old, *self._before(client, old)] if old else []
                chain = ",".join([v.version for v in before if v.version != version.version][:_CHAIN])
                client.set_model_version_tag(version.name, version.version, _REPLACED, chain)
                if decision is not None:
                    self.check_champion(version, decision)
                client.set_registered_model_alias(version.name, CHAMPION, version.version)
            promoted = self._read(client, version.name, version.version)
            self._restore_previous(client, promoted)
            if CHALLENGER in promoted.aliases:
                client.delete_registered_model_alias(version.name, CHALLENGER)
            return self._read(client, version.name, version.version)

    def champion(self, name: str) -> RegisteredVersion:
        """Return the champion.

        Raises:
            RegistryError: There is no champion.
        """
        if champion := self.by_alias(name, CHAMPION):
            return champion
        if registered := self.versions(name, limit=1):
            newest = registered[0].version
            raise RegistryError(
                f"{name}: no champion; run visionops promote (the newest version is {newest}), or train again"
            )
        raise RegistryError(f"{name}: no champion; run --pipeline training first")

    def before_champion(self, name: str) -> RegisteredVersion:
        """Return the last champion before the current one that was not rolled back.

        Raises:
            RegistryError: There is no champion, or none before it.
        """
        champion = self.champion(name)
        with self._client() as client:
            before = self._before(client, champion)
        if before:
            return before[0]
        raise RegistryError(
            f"{name}: version {champion.version} is the first champion that was not rolled back; there is no earlier "
            "version to go back to"
        )

    def lineage(self, champion: RegisteredVersion) -> tuple[RegisteredVersion, ...]:
        """Return the versions to compare a challenger with: the champion, and if that is INT8 its float ancestors.

        An INT8 champion may be slightly worse than the float model before it. If challengers were compared with the
        champion alone, alternating float and INT8 models would lose that much in each round.
        """
        found = [champion]
        if self._precision(champion) is Precision.INT8:
            with self._client() as client:
                before = self._before(client, champion)
            for version in before:
                found.append(version)
                if self._precision(version) is not Precision.INT8:
                    break
        return tuple(found)

    def rollback(self, name: str, bad: RegisteredVersion | None = None) -> RegisteredVersion:
        """Restore the champion before the current one; the current one is never promoted again.

        Args:
            name: Name of the use case.
            bad: The version to take out of service; the champion if absent.

        Raises:
            RegistryError: There is no champion, or none before it.
            ChampionChangedError: ``bad`` is no longer the champion, because another run was faster.
        """
        champion = self.champion(name)
        if bad is not None and champion.version != bad.version:
            raise ChampionChangedError(
                f"{name}: version {bad.version} cannot be rolled back, because version {champion.version} is now "
                "champion; run again"
            )
        good = self.before_champion(name)
        with self._client() as client:
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            client.set_model_version_tag(name, champion.version, _ROLLED_BACK, now)
            client.set_registered_model_alias(name, CHAMPION, good.version)
            self._restore_previous(client, good)
            return self._read(client, name, good.version)

    def fetch_bundle(self, version: RegisteredVersion, folder: Path) -> ModelBundle:
        """Fetch the bundle of a version into ``folder`` and check it.

        Raises:
            BundleError: It is corrupt.
        """
        import mlflow

        with self._client() as client, self._as_tracker():
            source = client.get_model_version_download_uri(version.name, version.version)
            folder.mkdir(parents=True, exist_ok=True)
            local = Path(mlflow.artifacts.download_artifacts(artifact_uri=source, dst_path=str(folder)))
        cards = sorted(local.glob("*/*/bundle.json"))
        if not cards:
            raise RegistryError(f"{version.name} version {version.version}: its model holds no bundle; train again")
        return ModelBundle.load(cards[0].parent)

    @contextlib.contextmanager
    def _as_tracker(self) -> Iterator[None]:
        """Point MLflow's functions at this server; they may be in use for a tracker elsewhere."""
        import mlflow

        before = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else ""
        mlflow.set_tracking_uri(self.tracking_uri)
        try:
            yield
        finally:
            mlflow.set_tracking_uri(before)

    @contextlib.contextmanager
    def _client(self) -> Iterator[MlflowClient]:
        import sqlalchemy.exc
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException

        try:
            with brief_waits():
                yield MlflowClient(tracking_uri=self.tracking_uri, registry_uri=self.tracking_uri)
        except (MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
            address = _without_password(self.tracking_uri)
            cause = str(error).strip().splitlines()[0].replace(self.tracking_uri, address)[:200]
            raise RegistryError(
                f"model registry {address}: does not answer ({cause}); "
                "check the address in the stack file and that the server runs"
            ) from error

    def _restore_previous(self, client: MlflowClient, champion: RegisteredVersion) -> None:
        """Set the alias `PREVIOUS` to the champion before ``champion``, or delete it if there is none."""
        before = self._before(client, champion)
        if before:
            client.set_registered_model_alias(champion.name, PREVIOUS, before[0].version)
        elif PREVIOUS in client.get_registered_model(champion.name).aliases:
            client.delete_registered_model_alias(champion.name, PREVIOUS)

    def _before(self, client: MlflowClient, champion: RegisteredVersion) -> list[RegisteredVersion]:
        """Return the champions before ``champion``, the latest first, without duplicates and rolled-back versions."""
        found, seen, waiting = [], {champion.version}, _replaced(champion)
        while waiting:
            number = waiting.pop(0)
            if number in seen:
                continue
            seen.add(number)
            version = self._find(client, champion.name, number)
            if version is None:  # deleted since
                continue
            if not version.rolled_back:
                found.append(version)
            if not waiting:  # a tag of an earlier release names only one version; its own tag names the next
                waiting = _replaced(version)
        return found

    def _precision(self, version: RegisteredVersion) -> Precision:
        if stamp := version.tags.get(_PRECISION):
            return Precision(stamp)
        with tempfile.TemporaryDirectory(prefix="visionops-precision-") as folder:  # a version of an earlier release
            return self.fetch_bundle(version, Path(folder)).card.precision

    def _find(self, client: MlflowClient, name: str, number: str) -> RegisteredVersion | None:
        from mlflow.exceptions import MlflowException

        try:
            return self._read(client, name, number)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _by_alias(self, client: MlflowClient, name: str, alias: str) -> RegisteredVersion | None:
        from mlflow.exceptions import MlflowException

        try:
            found = client.get_model_version_by_alias(name, alias)
        except MlflowException as error:
            if error.error_code in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                return None
            raise
        return self._read(client, name, found.version)

    @classmethod
    def _read(cls, client: MlflowClient, name: str, version: str) -> RegisteredVersion:
        return cls._from_mlflow(client.get_model_version(name, version))

    @staticmethod
    def _from_mlflow(found: ModelVersion) -> RegisteredVersion:
        tags = dict(found.tags)
        return RegisteredVersion(
            name=found.name,
            version=str(found.version),
            digest=tags.get(_DIGEST, ""),
            aliases=tuple(found.aliases),
            tags=tags,
            created=datetime.datetime.fromtimestamp(found.creation_timestamp / 1000, datetime.UTC),
        )


def _replaced(version: RegisteredVersion) -> list[str]:
    """Return the champions before a version by its own tag, the latest first."""
    return [number for number in version.tags.get(_REPLACED, "").split(",") if number]


def _without_password(uri: str) -> str:
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"
