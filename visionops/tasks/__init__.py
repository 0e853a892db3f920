"""Tasks that can be learned: one package for each task, behind `visionops.tasks.spec.TaskSpec`."""
