"""Replicas of a fleet share their state through Redis. Imported only where the settings have `registry:`.

It fails open: whatever Redis does, loading goes on and `/ready` is the same. Imports neither torch nor
ComfyUI, and redis-py only when it connects.
"""
