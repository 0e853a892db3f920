"""Which image trains, which selects the model, which judges it.

A split is for life. Splits that the data set gives are kept. Whether any other image is in test follows from a hash of
its content, whatever else is in the data set, in which order, or under which label; val takes of each class its share
of what is left, by the same hash. What an earlier version dealt stays where it was (`SplitHistory`): no image judges a
model whose lineage was trained or selected on it. A group of images that must stay together is dealt as one.

Dealing each image by itself cannot balance test as a draw over all of them would: its shares vary as those of coin
tosses do. Images are moved, those first whose hash lies nearest to the border, only where a split would be left without
a class, and where a few images in all would leave test far from its share.
"""
