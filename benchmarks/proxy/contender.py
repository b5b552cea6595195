"""A measured service for chat completions, and its Redis."""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Contender:
    """One running service. `key`: sent in its requests; `upstream_key`: the key by which the stand-in counts them."""

    name: str
    port: int
    key: str
    upstream_key: str
    pids: list[int]
    redis_pids: list[int] = field(default_factory=list)
    path: str = "/api/v1/chat/completions"
    is_exact: bool = True
    """Whether each answer must equal upstream's byte for byte. LiteLLM rewrites answers."""
    check: Callable[[], None] = lambda: None
    """Compares the booked cost with upstream's count. Raises BenchFailed."""
