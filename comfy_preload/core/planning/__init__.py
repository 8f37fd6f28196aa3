"""From settings and workflows to a plan of loader calls, and to what can be known about it before loading."""
