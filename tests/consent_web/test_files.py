"""The browser SDK as pages load it: small on the wire, with types beside it."""

import gzip
from collections.abc import Callable

import brotli
import pytest

from tests.consent_web.world import Visitor, World

MOST_WIRE_BYTES = 4500


@pytest.mark.parametrize(("coding", "unpack"), [("gzip", gzip.decompress), ("br", brotli.decompress)])
async def test_the_sdk_is_small_on_the_wire(world: World, coding: str, unpack: Callable[[bytes], bytes]) -> None:
    """The body that arrives, in each coding that browsers ask for, is the minified build."""
    built = (world.site.assets.sdk_folder / "client.min.js").read_bytes()
    headers = {"Accept-Encoding": coding}
    async with world.http.get(f"{world.base}/sdk/client.js", headers=headers, auto_decompress=False) as answer:
        assert (answer.headers["Content-Encoding"], answer.headers["Vary"]) == (coding, "Accept-Encoding")
        wire = await answer.read()
    assert len(wire) <= MOST_WIRE_BYTES
    assert unpack(wire) == built


async def test_types_are_beside_the_sdk(visitor: Visitor) -> None:
    """By the name that editors look for."""
    types = await visitor.get("/sdk/client.d.ts")
    assert (types.status, types.headers["Content-Type"]) == (200, "application/typescript; charset=utf-8")
    assert "export function createWattfare" in types.text
