"""What watches over the site asks and reads: is it alive, is it ready, and one log line for each request.

Rule: a line names the page, never its path or query: those of some pages hold what only this browser may know.
"""

import time

from aiohttp import web
from aiohttp.typedefs import Handler

from consent_web.guard import json_response
from consent_web.site import SITE
from gateway import metrics
from gateway.errors import Unavailable
from gateway.logs import log_request

# A caller that left before its answer was there; nginx's number for it.
_GONE = 499


def routes() -> list[web.RouteDef]:
    """Return the paths that a load balancer asks."""
    return [web.get("/healthz", healthz), web.get("/readyz", readyz)]


async def healthz(_: web.Request) -> web.Response:
    """Answer as long as the process lives."""
    return json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Answer 200 when Redis is there and the one we knew. Raises Unavailable."""
    if not await request.app[SITE].answers():
        raise Unavailable
    return json_response({"status": "ready"})


@web.middleware
async def logged(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Write the one line of a request, and count it by status."""
    started, status = time.perf_counter(), _GONE
    try:
        response = await handler(request)
        status = response.status
    finally:
        resource = request.match_info.route.resource
        page = resource.canonical if resource is not None else "none"
        total_ms = round((time.perf_counter() - started) * 1000, 2)
        metrics.requests_of(status).inc()
        log_request({"method": request.method, "page": page, "status": status, "total_ms": total_ms})
    return response
