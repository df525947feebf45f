"""Transfer against the distance of tasks."""
