"""Keep a prediction server on the version that has an alias in the model registry."""
