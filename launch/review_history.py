"""Implement `visionops review history`: print the history of an image, and the models trained on it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from visionops.review.tracing import ImageHistory, TrainedModel

__all__ = ["print_history"]


def print_history(name: str) -> None:
    """Print the history of an image in each use case.

    Args:
        name: SHA-256 of the image, or the id of an item.

    Raises:
        NotFound: The image is in no review.
        Unavailable: The database does not answer.
    """
    from visionops.review.tracing import find_items, image_history
    from visionops.review_store.opening import open_review

    with open_review() as review:
        items = find_items(review.store, name)
        use_cases = sorted({review.store.item(item).use_case for item in items})
        models, problem = _trained_models(use_cases)
        found = [image_history(review.store, item, models.get(review.store.item(item).use_case, ())) for item in items]
    for number, history in enumerate(found):
        if number:
            typer.echo()
        _print(history)
    if problem:
        typer.echo(f"models    unknown: {problem}")


def _trained_models(use_cases: list[str]) -> tuple[dict[str, list[TrainedModel]], str]:
    """Return the models that were trained on each review, and why they are unknown; "" otherwise."""
    from visionops.errors import RegistryError, StackError
    from visionops.review.tracing import TrainedModel

    try:
        from launch.environment import quieten_libraries

        quieten_libraries()
        from steps.context import active_registry

        registry = active_registry()
        found = {
            case: [
                TrainedModel(v.name, v.version, v.review_version(case), v.trained, v.aliases)
                for v in registry.reviewed(case)
            ]
            for case in use_cases
        }
    except (RegistryError, StackError) as error:
        return {}, str(error)
    return found, ""


def _print(history: ImageHistory) -> None:
    from visionops.errors import one_line

    item = history.traced.item
    image = item.image
    typer.echo(f"item      {item.id} of {one_line(item.use_case)}, {item.status.state.value}")
    typer.echo(f"image     {image.sha256}\n          {image.format}, {image.width} x {image.height} pixels")
    for arrival in history.traced.arrivals:
        came = arrival.submission
        reasons = ", ".join(reason.kind for reason in came.reasons)
        said = f", predicted by {came.predicted.model} version {came.predicted.version}" if came.predicted else ""
        why = f" ({reasons})" if reasons else ""
        where = f"{came.origin.value} {came.reference or came.name}".rstrip()
        typer.echo(one_line(f"{arrival.at:%Y-%m-%d %H:%M:%S}  {where} by {arrival.by}{said}{why}"))
    for decision, version in history.traced.decisions:
        taken = f"; in data version {version}" if version is not None else ""
        what = decision.label if decision.label is not None else decision.reason
        said = f"round {decision.round}: {decision.verdict.value} by {decision.reviewer}: {what}{taken}"
        typer.echo(one_line(f"{decision.at:%Y-%m-%d %H:%M:%S}  {said}"))
    for model, round_ in history.models:
        known_as = f" ({', '.join(model.aliases)})" if model.aliases else ""
        typer.echo(
            one_line(
                f"{model.trained:%Y-%m-%d %H:%M:%S}  {model.name} version {model.version}{known_as} trained on data "
                f"version {model.data_version}, with the label of round {round_}"
            )
        )
