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
    """Return the data set with a split for every labelled image. Images for batch inference do not change.

    The first rule that applies decides:

    1. An image that had a split in an earlier version of the data set keeps it, even if the data set now declares
       another.
    2. An image that looks like images of rule 1 gets their split. If these are in several splits, it is left out.
    3. An image keeps the split that the data set declares for it, except that missing splits are created. With only
       train and val, half of val becomes test; if val has less than half of the images that val and test should have
       together, test is taken from train and val. With only train and test, val is taken from train. With only train,
       or no split at all, all images are divided by the shares in ``config``.
    4. An image without a split, in a data set that has splits, gets the split of its group (the images that look like
       it, or share its ``group``). It is left out if its group is in several splits, and goes to train without a group.
       An addition without a group is assigned by the shares in ``config``.

    The result depends on content and seed, not on the order of rows. ``notes`` describe what was done, and ``findings``
    name images that were left out or have another split than the data set declares.

    Args:
        history: Splits of earlier versions of the data set.
        distance: Maximum Hamming distance between the perceptual hashes of two images that count as looking alike.

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
