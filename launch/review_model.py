"""Load the model that `visionops review audit` uses to check labels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from visionops.config import Config
from visionops.errors import BundleError
from visionops.inference.bundle import ModelBundle
from visionops.inference.predictor import Predictor
from visionops.review.label_audit import Model

__all__ = ["open_model"]


@contextmanager
def open_model(use_case: Config, folder: Path | None) -> Iterator[Model]:
    """Load the model of a bundle in ``folder``, by default the champion, while the block runs.

    Raises:
        RegistryError: The use case has no champion.
        BundleError: The bundle is invalid, or its model is for another task.
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
            raise BundleError(f"{bundle.folder}: expected a model for {use_case.task}, got one for {bundle.card.task}")
        predictor = Predictor(bundle, use_case.serving.engine)
        yield Model(name, number, lambda data, where: predictor.predict(data, where=where).to_dict())
