"""What makes container images."""
