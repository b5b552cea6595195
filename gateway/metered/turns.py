"""Locks by name for work that takes seconds in threads, so that many requests of one app do not delay all others.

Rule: after waiting for a lock, check whether the caller is still connected.
"""

import asyncio
from weakref import WeakValueDictionary

_TAKEN: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


def turn_of(name: str) -> asyncio.Lock:
    """Return the lock of that name; it is granted in the order of arrival."""
    return _TAKEN.get(name) or _TAKEN.setdefault(name, asyncio.Lock())
