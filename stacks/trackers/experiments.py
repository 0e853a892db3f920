"""MLflow experiments whose files lie where they should."""

from __future__ import annotations

from pathlib import Path

from visionops.errors import StackError

__all__ = ["ensure_experiment"]

_REMOTE = ("http://", "https://", "databricks")


def ensure_experiment(tracking_uri: str, name: str, artifact_root: Path) -> str:
    """Create the experiment ``name`` unless it exists.

    On a bare database MLflow gives a new experiment the location ``./mlruns`` of whatever folder the process started
    in; so it must exist, with a location of ours, before anybody else creates it. A server knows its own root.

    Args:
        artifact_root: Its files go to ``artifact_root / name``, for a tracking database on this machine.

    Returns:
        The experiment's id.

    Raises:
        StackError: The database cannot be opened, or the experiment was deleted.
    """
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    local = not tracking_uri.startswith(_REMOTE)
    try:
        _make_folder_of(tracking_uri)
        client = mlflow.MlflowClient(tracking_uri)
        if found := client.get_experiment_by_name(name):
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(found.experiment_id)
            return str(found.experiment_id)
        return str(client.create_experiment(name, (artifact_root / name).resolve().as_uri() if local else None))
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise StackError(f"{tracking_uri}: experiment {name!r} cannot be made ready ({_first_line(error)})") from error


def _make_folder_of(tracking_uri: str) -> None:
    scheme, _, path = tracking_uri.partition(":///")
    if scheme == "sqlite":
        Path(path).parent.mkdir(parents=True, exist_ok=True)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
