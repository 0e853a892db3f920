"""The model that `visionops review audit` asks about labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from visionops.config import Config
from visionops.errors import BundleError
from visionops.inference.bundle import ModelBundle
from visionops.inference.predictor import Predictor
from visionops.review.label_audit import Model

__all__ = ["asked_model"]


@contextmanager
def asked_model(use_case: Config, folder: Path | None) -> Iterator[Model]:
    """The model of a bundle in ``folder``, or else the champion, while the block runs.

    Raises:
        RegistryError: There is no champion.
        BundleError: It cannot be used, or is a model of another task.
    """
    with ExitStack() as stack:
        if folder is None:
            from steps.context import champion_bundle

            version, bundle = stack.enter_context(champion_bundle(use_case.name))
            name, number = version.name, version.version
        else:
            bundle = ModelBundle.load(folder)
            name, number = bundle.card.name, bundle.digest[:12]
        if bundle.card.task != use_case.task:
            raise BundleError(f"{bundle.folder}: is a model of {bundle.card.task}, not {use_case.task}")
        predictor = Predictor(bundle, use_case.serving.engine)
        yield Model(name, number, lambda data, where: predictor.predict(data, where=where).to_dict())
