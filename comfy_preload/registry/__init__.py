"""What the replicas of a fleet tell each other through Redis. Imported only where the settings have `registry:`.

It fails open: whatever Redis does or does not do, loading goes on and `/ready` says the same. Imports neither torch nor ComfyUI,
and redis-py only when it connects.
"""
