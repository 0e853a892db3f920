"""Scripts and files that build the container images."""
