"""The state: loaded models, readiness, jobs, and the snapshots that other rooms read."""
