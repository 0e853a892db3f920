"""VisionOps: visual inspection from labelled images to a monitored, self-improving endpoint."""

__all__ = ["__version__"]

__version__ = "0.1.0"
