"""What can be learned: one package a task, behind `visionops.tasks.spec.TaskSpec`."""
