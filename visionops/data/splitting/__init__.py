"""Decide which images train a model, which select it, and which test it.

An image keeps its split forever. Splits that the data set gives are kept. For any other image, a hash of its content
decides whether it is in test, whatever else is in the data set, in any order and under any label; val takes its share
of each class from the rest, by the same hash. Splits of earlier versions are kept (`SplitHistory`): no image tests a
model whose lineage was trained or selected on it. Images that must stay together are assigned as one group.

Assigning each image by itself cannot balance test like a draw over all images: its shares vary like coin tosses. Images
are moved only if a split would lack a class, or if in a small collection test would be far from its share; those with a
hash nearest to the border move first.
"""
