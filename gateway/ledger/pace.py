"""How fast one budget may be used, whatever is left of it: against loops, not against users."""

from dataclasses import dataclass

from gateway import metrics
from gateway.errors import RateLimited
from gateway.settings import USUAL_OPEN, USUAL_RATE

# Some of the open ones will have ended by then.
_OPEN_WAIT_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Pace:
    """How many requests of a budget may be open at once, and how many may begin in a minute."""

    open_requests: int = USUAL_OPEN
    requests_a_minute: int = USUAL_RATE


def too_often(wait_ms: int) -> RateLimited:
    """Return the refusal of a request that came too soon."""
    message = "This user's requests come too fast. Wait as long as Retry-After says, and send fewer."
    metrics.limited_by("user").inc()
    return RateLimited(message, retry_after_seconds=max(1, -(-wait_ms // 1000)), limit="user")


def too_many_open() -> RateLimited:
    """Return the refusal of one more request beside those that are open."""
    message = "This user has too many requests open at once. Wait for some to end, then try again."
    metrics.limited_by("open").inc()
    return RateLimited(message, retry_after_seconds=_OPEN_WAIT_SECONDS, limit="open")
