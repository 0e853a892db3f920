"""Deploy champions to processes, containers and clusters."""
