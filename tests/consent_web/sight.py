"""What the tests of attacks look at: every page, every connection, every key of the store."""

from gateway import keys
from tests.consent_web.world import World

PAGES = ("/", "/consent", "/fund/start", f"/fund/callback/{'s' * 43}?code=X", "/funding", "/nowhere", "/stop")


async def is_connected(world: World, user: str = "bob") -> bool:
    """Return whether the user's live connection is active."""
    return (await world.site.connections.status(world.budget(user)))["connected"] is True


async def dump(world: World) -> dict[str, object]:
    """Return every key of the store with its content, but for what moves by itself."""
    found: dict[str, object] = {}
    async for key in world.services.store.each_key("*"):
        if key.startswith((keys.INSTANCE, keys.GATEWAYS)):
            continue
        found[key] = await world.services.store.call("DUMP", key)
    return found
