"""Inference without a training framework: bundle, engines, predictor. Imports no torch, ZenML or MLflow."""
