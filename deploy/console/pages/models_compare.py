"""Compare two versions: figures with intervals, per class, and the test images on which they differ."""

from __future__ import annotations

from typing import Any

from nicegui import ui

from deploy.console.context import Console
from deploy.console.pages.charts import bar_chart
from deploy.console.pages.later import fill_later
from deploy.console.pages.parts import section, table
from deploy.console.pages.words import figure, interval

__all__ = ["show_side_by_side"]


def show_side_by_side(console: Console, name: str, metric: str, first: dict[str, Any], second: dict[str, Any]) -> None:
    """Show the differences of two versions."""
    heads = tuple(f"version {row['version']}" for row in (first, second))
    ours, theirs = first["evaluation"] or {}, second["evaluation"] or {}
    with section(f"{heads[0].capitalize()} beside {heads[1]}"):
        for row, known in ((first, ours), (second, theirs)):
            if not known:
                ui.label(
                    f"The evaluation of version {row['version']} is not in the artifact store any more, so its figures "
                    "are from the registry, without intervals and classes."
                ).classes("vo-warn")
        if ours and theirs and ours["test_fingerprint"] != theirs["test_fingerprint"]:
            ui.label(
                "The versions were evaluated on different test splits, so these figures cannot be compared; the gate "
                "has scored both on the same one."
            ).classes("vo-warn")
        _figures(first, second, heads)
    _classes(metric, ours, theirs, heads)
    _images(console, name, first["version"], second["version"])


def _figures(first: dict[str, Any], second: dict[str, Any], heads: tuple[str, ...]) -> None:
    known = first["evaluation"] or second["evaluation"] or {}
    headline = known.get("headline", [])
    names = [*headline, *(one for one in first["metrics"] if one not in headline and one in second["metrics"])]
    rows = []
    for one in names:
        values = [row["metrics"].get(one) for row in (first, second)]
        bounds = [interval((row["evaluation"] or {}).get("intervals", {}).get(one)) for row in (first, second)]
        rows.append((one, figure(values[0]), bounds[0], figure(values[1]), bounds[1], _difference(*values)))
    columns = ("Figure", heads[0], "95 % interval", heads[1], "95 % interval", "Difference")
    table(columns, rows, "Figures of both versions", numbers=range(1, 6))


def _classes(metric: str, ours: dict[str, Any], theirs: dict[str, Any], heads: tuple[str, ...]) -> None:
    per_class = [one.get("per_class", {}) for one in (ours, theirs)]
    labels = list(dict.fromkeys([*per_class[0], *per_class[1]]))
    if not labels:
        return
    with section("Per class"), ui.element("div").classes("vm-two"):
        shown = metric if any(metric in row for one in per_class for row in one.values()) else "recall"
        values = [[one.get(label, {}).get(shown) for label in labels] for one in per_class]
        with ui.element("div"):
            bar_chart(f"{shown} per class", labels, dict(zip(heads, values, strict=True)))
        rows = []
        for at, label in enumerate(labels):
            counts = [one[label].get("instances") for one in per_class if label in one]
            count = next((f"{value:.0f}" for value in counts if value is not None), "-")
            pair = values[0][at], values[1][at]
            rows.append((label, count, figure(pair[0]), figure(pair[1]), _difference(*pair)))
        table(("Class", "In test", *heads, "Difference"), rows, f"{shown} per class", numbers=range(1, 5))


def _difference(first: float | None, second: float | None) -> str:
    return "-" if first is None or second is None else f"{first - second:+.3f}"


def _images(console: Console, name: str, first: str, second: str) -> None:
    with section("Images on which they differ"):
        ui.label(
            "An evaluation stores figures and its worst images, not the answer for each image. Both versions can "
            "predict the images of the newest test split again, which takes seconds to minutes."
        ).classes("vo-muted")
        place = ui.element("div").style("width: 100%")

        def ask() -> None:
            button.disable()
            place.clear()
            with place:
                fill_later(
                    lambda: console.facts.get("differences", name=name, first=first, second=second),
                    lambda found: _differing(found, first, second),
                    lines=3,
                )

        button = ui.button("Ask both versions", icon="compare", on_click=ask).props("outline no-caps")
        button.classes("self-start")


def _differing(found: dict[str, Any], first: str, second: str) -> None:
    few = "" if found["compared"] == found["test_images"] else f", of {found['test_images']:,} in the test split"
    ui.label(f"They differ on {found['differing']:,} of {found['compared']:,} images{few}; the furthest apart first.")
    with ui.element("div").classes("vm-pairs"):
        for row in found["rows"]:
            with ui.element("figure").classes("vm-pair"):
                ui.image(row["data"]).props("no-spinner fit=contain").props["alt"] = row["name"]
                with ui.element("figcaption"):
                    ui.label(row["name"]).classes("vm-long vo-muted")
                    ui.label(f"version {first}: {row['first']}").classes("vm-long")
                    ui.label(f"version {second}: {row['second']}").classes("vm-long")
                    ui.label(f"agreement {row['agreement']:.2f}").classes("vo-muted")
