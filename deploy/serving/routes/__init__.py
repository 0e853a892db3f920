"""Routes of the prediction server, one module per topic."""
