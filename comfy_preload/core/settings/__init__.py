"""Everything about `preload.yaml`: finding, parsing, validating, writing and editing it."""
