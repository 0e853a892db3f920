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
    """Return the data set with a split for every labelled image; images for batch inference stay as they are.

    In this order:

    - An image that an earlier version dealt keeps that split, whatever the data set gives now.
    - An image that looks like such images goes where they are. Where they are in several splits, it is left out.
    - A split that the data set gives is kept. Where it gives train and val only, half of val becomes test if val is at
      least half of what val and test should hold together, else test is cut from both. Where it gives train and test
      only, val is cut from train. Where it gives only train, or nothing, all three are cut by the shares of ``config``.
    - An image without a split among images that have one goes where its group is, nowhere if its group is in several
      splits, and to train if it has no group; an addition without a group is dealt by the shares of ``config``.

    The result depends on content and seed, not on the order of rows. ``notes`` say in sentences what was done,
    ``findings`` name the images that are left out or keep another split than the data set gives.

    Args:
        history: What earlier versions dealt.
        distance: Largest Hamming distance of the perceptual hashes of look-alikes, as in the validation policy.

    Raises:
        DataError: A split would be empty.
    """
    splits = np.array(dataset.column("split"), dtype=object)
    labelled = splits != Split.UNLABELLED.value
    if not labelled.any():
        raise DataError(f"{dataset.name}: holds no labelled images to split; add images with annotations")
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
