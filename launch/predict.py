"""Implement `visionops predict`: print or draw the answers of an endpoint."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from launch.terminal import exit_code
from visionops.errors import ConfigError

if TYPE_CHECKING:
    from visionops.client import Answer

__all__ = ["KEY_VARIABLE", "predict_images"]

KEY_VARIABLE = "VISIONOPS_API_KEY"
"""Environment variable with the server's key, because command lines are visible to other users."""


def predict_images(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files.", show_default=False)],
    url: Annotated[str, typer.Option(metavar="URL", help="The server.")] = "http://127.0.0.1:8000",
    conf: Annotated[
        float | None, typer.Option(min=0, max=1, help="Lowest confidence of a box, for detectors.", show_default=False)
    ] = None,
    model: Annotated[str, typer.Option(metavar="NAME", help="One of its models (default: its default).")] = "",
    draw: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write each image with its answer drawn.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each image.")] = False,
    wait: Annotated[float, typer.Option(min=0, metavar="SECONDS", help="How long to wait for the server.")] = 30,
) -> None:
    """Print a model's answers for images; set VISIONOPS_API_KEY if the server needs a key."""
    raise typer.Exit(exit_code(lambda: _predict(images, url, conf, model, draw, as_json=as_json, wait=wait)))


def _predict(
    images: list[Path], url: str, conf: float | None, model: str, draw: Path | None, *, as_json: bool, wait: float
) -> None:
    from visionops.client import Client, ClientError, RequestRefused, Retry, draw_answer

    if draw:
        try:
            draw.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"--draw {draw}: cannot create the folder ({error.strerror})") from error
    with Client(url, os.environ.get(KEY_VARIABLE), retry=Retry(seconds=wait)) as client:
        for number, path in enumerate(images):
            try:
                answer = client.predict(path, conf=conf, model=model)
            except RequestRefused as error:
                raise ClientError(f"{path}: {error}") from error
            if as_json:
                typer.echo(json.dumps({"file": str(path), "request_id": answer.request_id, **answer.data}))
            else:
                _print(path, answer)
            if draw:
                written = draw / _name(images, number)
                try:
                    draw_answer(path, answer).save(written)
                except OSError as error:
                    raise ConfigError(f"{written}: cannot be written ({error.strerror or error})") from error
                typer.echo(f"  drawn   {written}", err=as_json)


def _name(images: list[Path], number: int) -> str:
    """Return the name of a drawn image; images of the same name are numbered."""
    stem = images[number].stem
    earlier = sum(image.stem == stem for image in images[:number])
    return f"{stem}-{earlier + 1}.png" if earlier else f"{stem}.png"


def _print(path: Path, answer: Answer) -> None:
    typer.echo(f"{path}  {answer.width} x {answer.height}, {answer.model.name} version {answer.model.version}")
    for found in answer.detections:
        x1, y1, x2, y2 = (round(value) for value in found.box)
        typer.echo(f"  {found.confidence:.2f}  {found.class_name}  {x1},{y1} to {x2},{y2}")
    if answer.classification:
        typer.echo(f"  {answer.classification.confidence:.2f}  {answer.classification.class_name}")
    for name, label in answer.attributes.items():
        typer.echo(f"  {label.confidence:.2f}  {name}: {label.class_name}")
    if answer.task == "detection" and not answer.detections:
        typer.echo("  nothing found")
