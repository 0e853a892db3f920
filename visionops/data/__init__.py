"""Read, validate, split and convert data sets."""
