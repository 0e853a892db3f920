"""Monitor a model's traffic: a record of each prediction, drift since the training, and the decision to retrain."""
