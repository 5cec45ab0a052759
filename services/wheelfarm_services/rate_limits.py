"""Rate limits: how often each token may be used, counted in Redis, so that all replicas of the API count together."""

from redis import Redis
from redis.exceptions import RedisError

# Generic cell rate algorithm: `due` is when the token's allowance would be whole again. A minute's allowance may be
# used at once; after that it grows back evenly.
_TAKE = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local due = math.max(now, tonumber(redis.call('GET', KEYS[1]) or '0')) + 60000 / tonumber(ARGV[1])
if due - now > 60000 then
  return math.ceil(due - now - 60000)
end
redis.call('SET', KEYS[1], string.format('%.3f', due), 'PX', 61000)
return 0
"""


class RateLimits:
    """Counts the uses of tokens."""

    def __init__(self, redis: Redis) -> None:
        self._take = redis.register_script(_TAKE)

    def wait_s(self, token: str, per_minute: int) -> float:
        """Count one use of a token that may be used so often a minute; the seconds after which it may be, 0 for now.

        Without Redis nothing is counted: what needs it says so itself, and wheels are still given out.
        """
        try:
            return float(self._take(keys=[f"{{wheelfarm}}:rate:{token}"], args=[per_minute])) / 1000
        except RedisError:
            return 0.0
