"""The way to Redis or Valkey: what its URL says, and how long anything is waited for."""

from urllib.parse import parse_qsl, urlencode, urlsplit

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def redis_client(url: str) -> Redis:
    """A client for a broker's URL, in Celery's forms; it answers in text, and never retries by itself."""
    return Redis.from_url(
        redis_py_url(url),
        decode_responses=True,
        protocol=2,
        socket_timeout=10,  # without one, a half-open connection hangs its thread for ever
        socket_connect_timeout=5,
        health_check_interval=15,
        retry=Retry(NoBackoff(), 0),  # patience is kept in one place, the ledger
    )


def redis_py_url(url: str) -> str:
    """The URL in redis-py's form; Celery writes unix sockets `redis+socket:///path?virtual_host=<db>`."""
    parts = urlsplit(url)
    if parts.scheme != "redis+socket":
        return url
    query = {"db" if name == "virtual_host" else name: value for name, value in parse_qsl(parts.query)}
    return f"unix://{parts.netloc}{parts.path}" + (f"?{urlencode(query)}" if query else "")


def without_credentials(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"
