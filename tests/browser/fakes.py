"""A consent page that does what no real one would, or not yet: served in the place of ours by the browser itself."""

from playwright.async_api import BrowserContext, Route

from tests.browser.app_site import AppSite

# Sends `hello` like the real page, and keeps what it receives. `finish` sends the result to the opener.
_PAGE = """<!doctype html><title>Fake</title><script>
const asked = new URLSearchParams(location.hash.slice(1))
const say = (message) => opener.postMessage({ ns: 'wattfare', v: 1, nonce: asked.get('n'), ...message }, '*')
addEventListener('message', ({ data }) => { globalThis.answer = data })
const finish = (result) => { say({ type: 'result', ...result }); close() }
say({ type: 'hello' })
</script>"""


async def replace_consent(context: BrowserContext, site: AppSite, *, attempt: str = '{"state":"pending"}') -> None:
    """Serve the fake as the consent page, and `attempt` as the server's answer about it."""

    async def page(route: Route) -> None:
        await route.fulfill(status=200, content_type="text/html", body=_PAGE)

    async def outcome(route: Route) -> None:
        headers = {"Access-Control-Allow-Origin": site.origin, "Access-Control-Allow-Headers": "authorization"}
        await route.fulfill(status=200, content_type="application/json", headers=headers, body=attempt)

    await context.route(f"{site.stack.consent}/consent", page)
    await context.route(f"{site.stack.gateway}/api/v1/attempts/*", outcome)
