"""Label Studio as an annotation tool: its labelling configuration, its results, its API."""
