"""The workflows, run as far as this machine can."""
