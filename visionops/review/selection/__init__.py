"""What to review first: pure functions over what a model says of the images that wait.

candidates     what is known of an image that waits
scoring        how undecided, contradicted, new or rare each one is
ranks          scores of one kind as shares of the queue, so that kinds can be added up
diversity      k-center greedy: the next image is far from all that stand before it
random_share   the share that no score decides about
ordering       all of it together: the reasons of each image, whose sum is its priority
"""
