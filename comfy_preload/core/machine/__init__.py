"""This machine: memory, mounts, page cache; reading files and touching memory ahead of their use."""
