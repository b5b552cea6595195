"""Remembers the results of a pure function, for what is looked up several times a request.

`functools.lru_cache` takes five times as long for each look-up: it makes a key, and moves it to the front.
"""

from collections.abc import Callable
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Memo(dict[K, V]):
    """Results by argument; its `__getitem__` is the function that remembers. One of `most` results is emptied."""

    def __init__(self, function: Callable[[K], V], most: int) -> None:
        super().__init__()
        self._function = function
        self._most = most

    def __missing__(self, argument: K) -> V:
        """Compute a result that is not known yet."""
        if len(self) >= self._most:
            self.clear()
        result = self[argument] = self._function(argument)
        return result
