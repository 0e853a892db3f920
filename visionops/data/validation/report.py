"""The validation report: saved, loaded, and summarized for people."""

from __future__ import annotations

import collections
import dataclasses
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from visionops.data.findings import Code, Finding, Severity
from visionops.errors import DataError, ValidationStopped
from visionops.inference.preprocessing_spec import FULL_WHITE

__all__ = ["ValidationReport"]


@dataclasses.dataclass(frozen=True)
class ValidationReport:
    """All findings and facts of a validation; saved as ``report.json``, ``facts.parquet`` and ``card.html``."""

    dataset_name: str
    findings: tuple[Finding, ...]
    counts: dict[str, Any]
    """``images``, ``usable``, ``boxes``, ``splits`` (images per split), ``classes`` (boxes, or images with that label,
    per class and split)."""
    facts: pa.Table
    """One row per image, in the order of the data set; see `FACTS_SCHEMA`."""
    near_groups: tuple[tuple[str, ...], ...] = ()
    """Keys of images that look the same but are different files."""
    white: int = FULL_WHITE
    """White level that scales 16-bit samples to 8 bits."""
    card: str = ""
    """An HTML page for people."""

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that stop the run."""
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    @property
    def verdict(self) -> str:
        """Result in one line for people."""
        if not self.findings:
            return "No finding: every image decodes and every label fits."
        tally = collections.Counter(f.severity for f in self.findings)
        parts = [
            f"{tally[s]} {s}{'s' if tally[s] > 1 and s is not Severity.INFO else ''}" for s in Severity if tally[s]
        ]
        return ("Stopped: " if tally[Severity.ERROR] else "Usable: ") + ", ".join(parts) + "."

    def counts_by_code(self) -> dict[Code, int]:
        """Return the number of findings per code, in the order of `Code`."""
        tally = collections.Counter(f.code for f in self.findings)
        return {code: tally[code] for code in Code if tally[code]}

    def grouped(self) -> list[tuple[Severity, Code, list[Finding]]]:
        """Return the findings by severity and code: errors first, then in the order of `Code`."""
        groups: dict[tuple[Severity, Code], list[Finding]] = collections.defaultdict(list)
        for finding in self.findings:
            groups[finding.severity, finding.code].append(finding)
        severities, codes = list(Severity), list(Code)
        order = sorted(groups, key=lambda k: (severities.index(k[0]), codes.index(k[1])))
        return [(severity, code, groups[severity, code]) for severity, code in order]

    def summary(self, places: int = 3) -> str:
        """Return the findings grouped by code, each with its count and first places, as text for a terminal."""
        lines = [self.verdict]
        for severity, code, findings in self.grouped():
            lines.append(f"{severity:<8}{code} x {len(findings)}")
            lines += [f"        {f.where}: {f.message}" for f in findings[:places]]
            if len(findings) > places:
                lines.append(f"        and {len(findings) - places} more")
        return "\n".join(lines)

    def raise_if_stopped(self) -> None:
        """Raise if there is an error.

        Raises:
            ValidationStopped: There is an error; the message has the first one with place and fix.
        """
        if not self.errors:
            return
        first = self.errors[0]
        rest = collections.Counter(f.code for f in self.errors[1:])
        more = ", ".join(f"{n} x {code}" for code, n in rest.most_common())
        also = f" (and {len(self.errors) - 1} more: {more}; the validation card shows them all)" if rest else ""
        raise ValidationStopped(f"{first.where}: {first.message}{also}")

    def save(self, folder: Path) -> None:
        """Write ``report.json``, ``facts.parquet`` and ``card.html`` into ``folder``."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "report.json").write_text(self.to_json(), encoding="utf-8")
        pq.write_table(self.facts, folder / "facts.parquet")
        (folder / "card.html").write_text(self.card, encoding="utf-8", errors="backslashreplace")

    def to_json(self) -> str:
        """Return the content of ``report.json``: all findings and counts."""
        raw = {
            "dataset_name": self.dataset_name,
            "verdict": self.verdict,
            "counts_by_code": self.counts_by_code(),
            "counts": self.counts,
            "near_groups": self.near_groups,
            "white": self.white,
            "findings": [dataclasses.asdict(finding) for finding in self.findings],
        }
        return json.dumps(raw, indent=1)

    @classmethod
    def load(cls, folder: Path) -> ValidationReport:
        """Read what `save` wrote.

        Raises:
            DataError: A file is missing or was not written by `save`.
        """
        try:
            raw = json.loads((folder / "report.json").read_text(encoding="utf-8"))
            return cls(
                dataset_name=raw["dataset_name"],
                findings=tuple(Finding.from_dict(f) for f in raw["findings"]),
                counts=raw["counts"],
                facts=pq.read_table(folder / "facts.parquet"),
                near_groups=tuple(tuple(group) for group in raw["near_groups"]),
                white=raw.get("white", FULL_WHITE),  # absent in reports that earlier versions saved
                card=(folder / "card.html").read_text(encoding="utf-8"),
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{folder}: not a saved validation report ({error}); run again with --no-cache") from error
