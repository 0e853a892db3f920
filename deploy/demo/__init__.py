"""Run the whole system on one host: ``make demo``, ``make demo-drill``, ``make demo-down``."""
