"""Read the panels of Grafana's dashboards by their queries, without Grafana, which is not a Python package."""

from __future__ import annotations

import json

from tests.helpers.programs import MONITORING, query

__all__ = ["panels", "shows_something"]

_VARIABLES = ("$instance", "$use_case", "$pipeline")


def panels() -> list[tuple[str, str]]:
    """Return each query of a panel, with "dashboard: title" before it."""
    found = []
    for path in sorted((MONITORING / "grafana" / "dashboards").glob("*.json")):
        for panel in json.loads(path.read_text())["panels"]:
            found += [(f"{path.stem}: {panel['title']}", target["expr"]) for target in panel["targets"]]
    return found


def shows_something(port: int, expression: str, window: str) -> bool:
    """Return whether the Prometheus at a port has data for a query, for any dashboard variables."""
    text = expression.replace("$__rate_interval", window)
    for variable in _VARIABLES:
        text = text.replace(variable, ".*")
    return bool(query(port, text))
