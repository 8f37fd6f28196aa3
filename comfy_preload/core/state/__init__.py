"""What is loaded, whether the server is ready, and the snapshots that everyone else reads."""
