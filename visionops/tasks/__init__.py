"""What can be learned: one module a task, behind `visionops.tasks.base.Task`."""
