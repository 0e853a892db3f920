"""Measure a training alone and next to a busy loop on each core, with different wait policies of OpenMP threads.

Run it as ``python -m benchmarks.neighbours [--use-case steel] [--ways default,passive] [--rounds 3]`` on an idle
machine. Each training is a separate process; in a round each way trains once alone and once next to the loops, so that
other work on the machine affects all of them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from benchmarks.contestants import busy_cores
from benchmarks.rows import cores

__all__ = ["ROOT", "WAYS", "main", "train_once", "training_command", "training_environment"]

ROOT = Path(__file__).resolve().parents[1]
WAYS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "default": {},
        "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
        **{f"spin-{count}": {"GOMP_SPINCOUNT": str(count)} for count in (1000, 3000, 10_000, 30_000, 100_000)},
        "one-thread": {"OMP_NUM_THREADS": "1"},
    }
)
"""Environment of a training by name of the wait policy."""
_IMAGES = 240
_EPOCHS = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the median seconds of an epoch, alone and next to a busy loop on each core, for each way."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.neighbours", description=__doc__)
    parser.add_argument("--use-case", default="steel", choices=["sample", "steel"])
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--ways", default="default,passive,spin-1000,spin-10000,spin-100000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loops", type=int, default=1, help="busy loops on each core [%(default)s]")
    parser.add_argument("--shared", action="store_true", help="run the loops in the session of the training")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--epochs", type=int, default=_EPOCHS, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.worker:
        sys.stdout.write(f"{train_once(given.use_case, given.data, given.worker, given.epochs):.3f}\n")
        return 0
    ways = given.ways.split(",")
    alone: dict[str, list[float]] = {way: [] for way in ways}
    beside: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(given.rounds):
        for way in ways if number % 2 == 0 else reversed(ways):
            alone[way].append(_seconds(given.use_case, given.data, way, own_session=not given.shared))
            with busy_cores(given.loops):
                beside[way].append(_seconds(given.use_case, given.data, way, own_session=not given.shared))
            sys.stderr.write(
                f"round {number + 1}: {way}: {alone[way][-1]:.1f} s alone, {beside[way][-1]:.1f} s beside\n"
            )
    base = statistics.median(alone[ways[0]])
    sys.stdout.write(
        f"{given.use_case}, {_IMAGES} images, {cores()}, {given.rounds} rounds; seconds of an epoch (median)\n"
    )
    sys.stdout.write(f"{'way':<12} {'alone':>8} {'of ' + ways[0]:>12} {'beside':>8} {'beside/alone':>13}\n")
    for way in ways:
        quiet, busy = statistics.median(alone[way]), statistics.median(beside[way])
        ratios = [b / a for a, b in zip(alone[way], beside[way], strict=True)]
        spread = f"({min(ratios):.2f}-{max(ratios):.2f})"
        sys.stdout.write(f"{way:<12} {quiet:>8.2f} {quiet / base:>12.2f} {busy:>8.2f} {busy / quiet:>6.2f} {spread}\n")
    return 0


def train_once(use_case: str, data: Path, folder: Path, epochs: int = _EPOCHS) -> float:
    """Train a few epochs in this process, and return the mean seconds of an epoch after the first."""
    import numpy as np

    from visionops.background import background_priority
    from visionops.config import Config, load_config
    from visionops.data.cleaning import clean
    from visionops.data.formats import read_dataset
    from visionops.data.hashing import hash_images
    from visionops.data.sample.folder import render_sample
    from visionops.data.settings import SampleSource
    from visionops.data.splitting.assignment import assign_splits
    from visionops.data.validation.judging import validate
    from visionops.tasks.base import NoLog
    from visionops.tasks.conversion import convert
    from visionops.tasks.detection.trainer import read_epochs
    from visionops.tasks.spec import task_for

    config: Config = load_config(ROOT / "configs" / f"{use_case}.yaml")
    source = config.data.source
    if isinstance(source, SampleSource):
        place = folder / "rendered"
        render_sample(source, place)
    else:
        place = data / "vision"
    dataset = read_dataset(place.absolute(), config.data, use_case, task_for(config.task).fit_dataset)
    dataset = hash_images(dataset.take_evenly(_IMAGES))
    dataset = assign_splits(clean(dataset, validate(dataset, config.validation)), config.data.split)
    plan = config.training_plan
    training = plan.training.model_copy(update={"epochs": epochs, "patience": 0})
    plan = plan.model_copy(update={"training": training})
    work = folder / "work"
    converted = convert(dataset, plan.conversion, folder / "converted", NoLog().progress)
    with background_priority():  # as the step of a run does
        task_for(config.task).train(converted, plan, work, NoLog())
    seconds = [epoch["seconds"] for _, epoch in sorted(read_epochs(work / "run" / "results.csv").items())]
    return float(np.diff(seconds).mean())


def training_command(use_case: str, data: Path, folder: Path, epochs: int = _EPOCHS) -> list[str]:
    """Return the command that trains in a process of its own, with its files in ``folder``."""
    command = [sys.executable, "-m", "benchmarks.neighbours", "--use-case", use_case, "--data", str(data)]
    return [*command, "--epochs", str(epochs), "--worker", str(folder)]


def training_environment(folder: Path, way: str) -> dict[str, str]:
    """Return the environment of `training_command`, with the variables of a wait policy."""
    return {**os.environ, "VISIONOPS_HOME": f"{folder}/home", "PYTHONWARNINGS": "ignore", **WAYS[way]}


def _seconds(use_case: str, data: Path, way: str, *, own_session: bool) -> float:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        done = subprocess.run(
            training_command(use_case, data, folder),
            cwd=ROOT,
            env=training_environment(folder, way),
            capture_output=True,
            text=True,
            check=False,
            start_new_session=own_session,  # as a run of the control service has
        )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return float(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
