"""Makes the client for the three kinds of Redis that a URL may name.

One server, a cluster, or one that Sentinel watches.

    redis://:PASSWORD@HOST:6379/0                        rediss:// is TLS, in all three
    redis+cluster://:PASSWORD@HOST:6379,HOST:6379        any nodes of the cluster; it names the others
    redis+sentinel://:PASSWORD@HOST:26379,HOST:26379/SERVICE/0

What follows `?` goes to redis-py: `ssl_ca_certs=/etc/ca.crt`, `ssl_certfile=…`, `ssl_keyfile=…`, and
`sentinel_password=…`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

CLUSTER, SENTINEL = "redis+cluster", "redis+sentinel"
DEFAULT_PORTS = {CLUSTER: 6379, SENTINEL: 26379}


def connect(url: str, options: Mapping[str, Any]) -> Any:
    """Return a client. A cluster and Sentinel are asked at once for what they know.

    Raises:
        ValueError: The URL is not one of the three.
    """
    import redis

    kind = url.partition("://")[0].replace("rediss", "redis")
    if kind not in DEFAULT_PORTS:
        return redis.Redis(connection_pool=redis.ConnectionPool.from_url(url, **options))
    return _cluster(url, options) if kind == CLUSTER else _sentinel(url, options)


def _cluster(url: str, options: Mapping[str, Any]) -> Any:
    from redis.cluster import ClusterNode, RedisCluster

    given = {**_common(url), **options}
    nodes = [ClusterNode(host, port) for host, port in _hosts(url, CLUSTER)]
    return RedisCluster(startup_nodes=nodes, dynamic_startup_nodes=True, **given)


def _sentinel(url: str, options: Mapping[str, Any]) -> Any:
    from redis.sentinel import Sentinel

    given = {**_common(url), **options}
    password = given.pop("sentinel_password", None)
    service, _, database = urlsplit(url).path.strip("/").partition("/")
    if not service:
        raise ValueError("no service")
    secure = {key: value for key, value in given.items() if key.startswith("ssl")}
    watchers = {"socket_timeout": options["socket_timeout"], "password": password, **secure}
    sentinel = Sentinel(_hosts(url, SENTINEL), sentinel_kwargs=watchers, **given)
    return sentinel.master_for(service, db=int(database or 0))


def _hosts(url: str, kind: str) -> list[tuple[str, int]]:
    found: list[tuple[str, int]] = []
    for part in urlsplit(url).netloc.rpartition("@")[2].split(","):
        one = urlsplit(f"//{part}")
        if not one.hostname:
            raise ValueError("no host")
        found.append((one.hostname, one.port or DEFAULT_PORTS[kind]))
    return found


def _common(url: str) -> dict[str, Any]:
    """User, password and what follows `?`, read by redis-py itself; host and port are `_hosts`'s."""
    from redis.connection import parse_url

    parts = urlsplit(url)
    secure = parts.scheme.startswith("rediss")
    user, at, _ = parts.netloc.rpartition("@")
    found = dict(parse_url(f"{'rediss' if secure else 'redis'}://{user}{at}host?{parts.query}"))
    for key in ("host", "port", "connection_class"):
        found.pop(key, None)
    return {**found, "ssl": True} if secure else found
