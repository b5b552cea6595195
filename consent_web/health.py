"""Health checks, and one log line for each request.

Rule: a line has the route's pattern, never the path or query, which may contain secrets such as an OAuth state.
"""

import time

from aiohttp import web
from aiohttp.typedefs import Handler

from consent_web.guard import json_response
from consent_web.site import SITE
from gateway import metrics
from gateway.errors import Unavailable
from gateway.logs import log_request

# The caller disconnected before the response: nginx's code for that.
_GONE = 499


def routes() -> list[web.RouteDef]:
    """Return the paths of health checks."""
    return [web.get("/healthz", healthz), web.get("/readyz", readyz)]


async def healthz(_: web.Request) -> web.Response:
    """Answer 200 while the process runs."""
    return json_response({"status": "ok"})


async def readyz(request: web.Request) -> web.Response:
    """Answer 200 if Redis answers and is valid (see store/epoch.py). Raises Unavailable."""
    if not await request.app[SITE].answers():
        raise Unavailable
    return json_response({"status": "ready"})


@web.middleware
async def logged(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Log a request in one line, and count it by status."""
    started, status = time.perf_counter(), _GONE
    try:
        response = await handler(request)
        status = response.status
    finally:
        resource = request.match_info.route.resource
        page = resource.canonical if resource is not None else "none"
        total_ms = round((time.perf_counter() - started) * 1000, 2)
        metrics.count_request(status)
        log_request({"method": request.method, "page": page, "status": status, "total_ms": total_ms})
    return response
