"""Estimate the gate's metric without labels: confidence-based performance estimation (CBPE).

NannyML's CBPE (https://nannyml.readthedocs.io, "How it works: confidence-based performance estimation"): a calibrated
probability says how often an answer is right, so the probabilities of a window give its expected confusion matrix, and
that gives accuracy, F1 and the rest. It rests on two assumptions: the probabilities stay calibrated on the window, and
what an image shows still means what it meant (no concept drift). Neither can be checked without labels, so everything
here is called an estimate.

    held_out       the champion's probabilities of its val split, with the truth, stored in its bundle
    calibration    Platt scaling of each class, fitted on those, and resamples of it
    estimating     the expected metric of a window, and its interval
    report         the estimate, or the reason why there is none
    rendering      the page, with the metric on labelled traffic in the same plot
"""
