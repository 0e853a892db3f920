"""Assign a split to every labelled image."""

from __future__ import annotations

import numpy as np

from visionops.data.dataset import Dataset, Split
from visionops.data.history import SplitHistory
from visionops.data.settings import SplitConfig
from visionops.data.splitting.dealer import LABELLED, Dealer
from visionops.data.splitting.units import Units
from visionops.errors import DataError

__all__ = ["assign_splits"]

_NEAR_DISTANCE = 4


def assign_splits(
    dataset: Dataset, config: SplitConfig, history: SplitHistory | None = None, *, distance: int = _NEAR_DISTANCE
) -> Dataset:
    """Return the data set with a split for every labelled image; images for batch inference do not change.

    The rules, in this order:

    - An image with a split in an earlier version keeps it, whatever the data set gives now.
    - An image that looks like such images gets their split. If they are in several splits, it is left out.
    - A split that the data set gives is kept. Where it gives train and val only, half of val becomes test if val is at
      least half of what val and test should hold together, else test is cut from both. Where it gives train and test
      only, val is cut from train. Where it gives only train, or nothing, all three are cut by the shares of ``config``.
    - An image without a split among images that have one gets the split of its group, none if its group is in several
      splits, and train if it has no group; an addition without a group is assigned by the shares of ``config``.

    The result depends on content and seed, not on the order of rows. ``notes`` describe each step in a sentence, and
    ``findings`` name images that are left out or keep another split than the data set gives.

    Args:
        history: Splits of earlier versions.
        distance: Maximum Hamming distance of the perceptual hashes of look-alikes, as in the validation policy.

    Raises:
        DataError: A split would be empty.
    """
    splits = np.array(dataset.column("split"), dtype=object)
    labelled = splits != Split.UNLABELLED.value
    if not labelled.any():
        raise DataError(f"{dataset.name}: no labelled images to split; add images with annotations")
    given = {s for s in LABELLED if (splits == s.value).any()}
    if given and Split.TRAIN not in given:
        names = " and ".join(sorted(given))
        raise DataError(
            f"{dataset.name}: gives {names} but no train images; add them, or remove the split to have it cut"
        )
    units = Units.of(dataset, config.seed, history, distance)
    dealer = Dealer(dataset, units, splits.copy(), given, config)
    dealer.keep_history()
    dealer.join_groups()
    dealer.cut()
    return dealer.result()
