"""The stages of the preload and of the commands, and what watches the process meanwhile."""
