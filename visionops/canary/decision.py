"""Decide on a candidate: a pure function of the release's settings and of the servers' reports.

During the hold a candidate is rolled back only when the whole 95 % interval of a figure lies beyond its bound. At the
end the figures themselves must keep the bounds. With too few images there is no decision, however long it takes.
"""

from __future__ import annotations

import enum
import math
from datetime import datetime, timedelta

from pydantic import BaseModel, ConfigDict

from visionops.data.findings import counted
from visionops.inference.release_report import Agreement, ArmFigures, ReleaseReports, merge_arms
from visionops.inference.release_settings import ReleaseConfig, Strategy

__all__ = ["Action", "Figures", "Verdict", "decide", "error_interval", "total_figures"]

_Z = 1.96


class Action(enum.StrEnum):
    """Action on a candidate."""

    HOLD = "hold"
    PROMOTE = "promote"
    RETURN = "return"


class Figures(BaseModel):
    """Figures of champion and candidate, summed over all servers."""

    model_config = ConfigDict(frozen=True)

    champion: ArmFigures = ArmFigures()
    candidate: ArmFigures = ArmFigures()
    agreement: Agreement = Agreement()
    heard: int = 0
    """Number of servers that reported on this candidate."""
    expected: int = 1

    @property
    def latency_ratio(self) -> float | None:
        """Return the median of the candidate's times over the champion's; None where one has no image."""
        ours, theirs = self.candidate.median_seconds, self.champion.median_seconds
        return ours / theirs if ours and theirs else None

    def summary(self) -> dict[str, float | int | None]:
        """Return the figures for the registry: counts, rates from 0 to 1, times in ms."""
        low, high = error_interval(self.candidate)
        agreed = self.agreement.interval()
        has_agreement = self.agreement.images > 0
        return {
            "champion_images": self.champion.images,
            "candidate_images": self.candidate.images,
            "candidate_failed": self.candidate.failed,
            "error_rate_low": round(low, 4),
            "error_rate_high": round(high, 4),
            "champion_median_ms": round(self.champion.median_seconds * 1000, 2),
            "candidate_median_ms": round(self.candidate.median_seconds * 1000, 2),
            "compared_images": self.agreement.images,
            "agreement": round(self.agreement.mean, 4) if has_agreement else None,
            "agreement_low": round(agreed[0], 4) if has_agreement else None,
            "agreement_high": round(agreed[1], 4) if has_agreement else None,
        }

    def explain(self) -> str:
        """Return one clause with the figures."""
        parts = [f"failed on {self.candidate.failed} of {counted(self.candidate.images, 'image')}"]
        if self.latency_ratio is not None:
            parts.append(
                f"took {self.candidate.median_seconds * 1000:.1f} ms where the champion took "
                f"{self.champion.median_seconds * 1000:.1f} ms"
            )
        if self.agreement.images:
            low, high = self.agreement.interval()
            parts.append(
                f"agreed by {self.agreement.mean:.3f} ({low:.3f} to {high:.3f}) on "
                f"{counted(self.agreement.images, 'image')}"
            )
        return ", ".join(parts)


class Verdict(BaseModel):
    """Decision on a candidate, with its reason."""

    model_config = ConfigDict(frozen=True)

    action: Action
    reason: str
    """One-sentence reason."""
    figures: Figures


def decide(release: ReleaseConfig, version: str, found: ReleaseReports, since: datetime, now: datetime) -> Verdict:
    """Decide whether ``version`` is promoted, rolled back, or kept on hold.

    Args:
        release: Release settings with the bounds.
        found: Reports of the servers; those with another candidate, or none, are not counted as heard.
        since: Begin of the hold; aware.
        now: Aware.
    """
    figures = total_figures(version, found)
    for report in found.reports:
        if report.candidate == version and (why := report.returned or report.problem):
            return Verdict(action=Action.RETURN, reason=why, figures=figures)
    if broken := _certainly_broken(release, figures):
        return Verdict(action=Action.RETURN, reason=broken, figures=figures)
    if waiting := _waits_for(release, figures, now - since):
        return Verdict(action=Action.HOLD, reason=waiting, figures=figures)
    if broken := _broken(release, figures):
        return Verdict(action=Action.RETURN, reason=broken, figures=figures)
    held = f"kept its bounds for {release.hold_minutes:g} minutes"
    return Verdict(action=Action.PROMOTE, reason=f"{held}: {figures.explain()}", figures=figures)


def total_figures(version: str, found: ReleaseReports) -> Figures:
    """Return the figures of all servers that report on ``version``."""
    ours = [report for report in found.reports if report.candidate == version]
    return Figures(
        champion=merge_arms([report.arm("champion") for report in ours]),
        candidate=merge_arms([report.arm("candidate") for report in ours]),
        agreement=Agreement(
            images=sum(report.agreement.images for report in ours),
            total=sum(report.agreement.total for report in ours),
            squares=sum(report.agreement.squares for report in ours),
        ),
        heard=len(ours),
        expected=found.expected,
    )


def error_interval(arm: ArmFigures) -> tuple[float, float]:
    """Return the 95 % interval of a model's failure rate over images (Wilson's score); 0 to 1 without images."""
    images, rate = arm.images, arm.error_rate
    if not images:
        return 0.0, 1.0
    spread = _Z**2 / images
    middle = (rate + spread / 2) / (1 + spread)
    half = _Z / (1 + spread) * math.sqrt(rate * (1 - rate) / images + spread / (4 * images))
    return max(0.0, middle - half), min(1.0, middle + half)


def _certainly_broken(release: ReleaseConfig, figures: Figures) -> str:
    """Return the bound that the candidate certainly breaks; "" for none."""
    candidate, agreement = figures.candidate, figures.agreement
    if candidate.images >= release.min_requests and error_interval(candidate)[0] > release.max_error_rate:
        return _too_many_errors(release, figures)
    enough = min(candidate.answered, figures.champion.answered) >= release.min_requests
    if enough and (slow := _too_slow(release, figures)):
        return slow
    least = release.min_agreement
    if least is not None and agreement.images >= release.min_requests and agreement.interval()[1] < least:
        return _too_different(least, agreement)
    return ""


def _broken(release: ReleaseConfig, figures: Figures) -> str:
    """Return the bound that the candidate breaks at the end of the hold; "" for none."""
    if figures.candidate.error_rate > release.max_error_rate:
        return _too_many_errors(release, figures)
    if release.min_agreement is not None and figures.agreement.mean < release.min_agreement:
        return _too_different(release.min_agreement, figures.agreement)
    return _too_slow(release, figures)


def _waits_for(release: ReleaseConfig, figures: Figures, held: timedelta) -> str:
    """Return what is missing for a decision; "" for nothing."""
    minutes = held / timedelta(minutes=1)
    if minutes < release.hold_minutes:
        return f"held for {minutes:.0f} of {release.hold_minutes:g} minutes: {figures.explain()}"
    if figures.heard < figures.expected:
        return f"{figures.heard} of {counted(figures.expected, 'server')} reported; look again"
    needed = release.min_requests
    if figures.candidate.images < needed:
        return f"{counted(figures.candidate.images, 'image')} of {needed} that it must answer before it is judged"
    if release.min_agreement is not None and figures.agreement.images < needed:
        return f"{counted(figures.agreement.images, 'image')} of {needed} that must be compared before it is judged"
    answers_all = release.strategy is Strategy.CANARY and release.share == 1
    if figures.champion.images < needed and not answers_all:
        return f"{counted(figures.champion.images, 'image')} of {needed} that the champion must answer for comparison"
    return ""


def _too_many_errors(release: ReleaseConfig, figures: Figures) -> str:
    low, high = error_interval(figures.candidate)
    return (
        f"failed on {figures.candidate.failed} of {counted(figures.candidate.images, 'image')} "
        f"({low:.1%} to {high:.1%}), over max_error_rate of {release.max_error_rate:.1%}"
    )


def _too_slow(release: ReleaseConfig, figures: Figures) -> str:
    ratio = figures.latency_ratio
    if ratio is None or ratio <= release.max_latency_ratio:
        return ""
    return (
        f"took {figures.candidate.median_seconds * 1000:.1f} ms an image where the champion took "
        f"{figures.champion.median_seconds * 1000:.1f} ms, over max_latency_ratio of {release.max_latency_ratio:g}"
    )


def _too_different(least: float, agreement: Agreement) -> str:
    low, high = agreement.interval()
    return (
        f"agreed with the champion by {agreement.mean:.3f} ({low:.3f} to {high:.3f}) on "
        f"{counted(agreement.images, 'image')}, below min_agreement of {least:g}"
    )
