"""Load models, choose which one answers a request, and make predictions."""
