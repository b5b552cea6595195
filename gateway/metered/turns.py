"""Turns of what takes seconds beside the event loop: one of a name at a time, so that a crowd stands behind others.

Rule: whoever has waited for a turn looks whether its caller is still there before it uses it.
"""

import asyncio
from weakref import WeakValueDictionary

_TAKEN: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()


def turn_of(name: str) -> asyncio.Lock:
    """Return what whoever does work of that name holds while it does it; in the order of arrival."""
    return _TAKEN.get(name) or _TAKEN.setdefault(name, asyncio.Lock())
