"""Define the stacks of components that pipelines run on."""
