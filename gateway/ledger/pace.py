"""Rate limits of one budget, independent of its cap: a protection against runaway loops, not against users."""

from dataclasses import dataclass

from gateway import metrics
from gateway.errors import RateLimited
from gateway.settings import USUAL_OPEN, USUAL_RATE

# Within this time some of the open requests will have ended.
_OPEN_WAIT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """The most requests of a budget that may be open at once, and that may begin in a minute."""

    open_requests: int = USUAL_OPEN
    requests_a_minute: int = USUAL_RATE


def too_often(wait_ms: int) -> RateLimited:
    """Return the refusal of a request above the rate."""
    message = "This user's requests come too fast. Wait as long as Retry-After says, and send fewer."
    metrics.limited_by("user").inc()
    return RateLimited(message, retry_after_seconds=max(1, -(-wait_ms // 1000)), limit="user")


def too_many_open() -> RateLimited:
    """Return the refusal of a request above the limit of open ones."""
    message = "This user has too many requests open at once. Wait for some to end, then try again."
    metrics.limited_by("open").inc()
    return RateLimited(message, retry_after_seconds=_OPEN_WAIT_SECONDS, limit="open")
