"""The whole system on one host, from nothing to alerts: ``make demo``, ``make demo-drill``, ``make demo-down``."""
