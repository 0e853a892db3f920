"""Choose what to review first: pure functions over a model's predictions for the pending images.

candidates     known facts about a pending image
scoring        how undecided, contradicted, new or rare each one is
ranks          scores of one kind as shares of the queue, so that kinds can be added up
diversity      k-center greedy: the next image is far from all images before it
random_share   the share that is drawn at random, without scores
ordering       combines all scores: the reasons of each image, whose sum is its priority
"""
