"""The Lua scripts as Redis gets them."""

import hashlib

from gateway.store import scripts


def test_each_room_brings_its_scripts_with_their_includes() -> None:
    """Every script has a name of its own, its includes are filled in, and Redis would give it the name that we do."""
    found = scripts.load()
    assert {"beat", "connect", "admit", "settle"} <= found.keys()
    assert not [name for name, script in found.items() if "-- include:" in script.text]
    assert all(script.sha == hashlib.sha1(script.text.encode()).hexdigest() for script in found.values())
