"""What is measured: a service that takes chat completions, and the Redis behind it."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Contender:
    """One running service. `key` goes into its requests, `upstream_key` is what the stand-in counts them by."""

    name: str
    port: int
    key: str
    upstream_key: str
    pids: list[int]
    redis_pids: list[int] = field(default_factory=list)
    path: str = "/api/v1/chat/completions"
    is_exact: bool = True
    """Whether each answer must be upstream's, byte for byte. LiteLLM writes answers of its own."""
    check: Callable[[], None] = lambda: None
    """Compares what it booked with what upstream served. Raises BenchFailed."""
