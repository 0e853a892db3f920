"""What a model is really asked: a record of each prediction, what changed since it was trained, and what follows."""
