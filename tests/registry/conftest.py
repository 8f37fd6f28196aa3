"""Owns the Redis servers of these tests.

Real ones on free ports, started by a factory and stopped whatever happens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support.redis_server import RedisServer, missing

Redis = Callable[..., RedisServer]


@pytest.fixture
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Redis]:
    """Start a Redis: `redis("--maxmemory", "1mb")`, arguments as for redis-server."""
    if reason := missing():
        pytest.skip(reason)
    with ExitStack() as servers:

        def start(*args: str, **options: Any) -> RedisServer:
            return servers.enter_context(RedisServer(tmp_path_factory.mktemp("redis"), *args, **options))

        yield start
