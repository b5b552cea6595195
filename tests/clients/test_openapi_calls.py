"""Every operation of `/openapi.json`, called with what it allows: no 500, no status that it does not name."""

import asyncio
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.edge import openapi
from tests.gateway.conftest import sandbox, sandboxed
from tests.gateway.stack import USER, Stack

__all__ = ["sandbox", "sandboxed"]

# What the library's own code does of hypothesis is not ours.
pytestmark = pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisDeprecationWarning")
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
EXAMPLES = 8
SCHEMA: Any = schemathesis.openapi.from_dict(openapi.document("http://gateway.example"))
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]


def keys(operation: Any, stack: Stack, token: str) -> dict[str, str]:
    """Return the headers that authenticate a call."""
    names = {name for scheme in operation.definition.raw.get("security", ()) for name in scheme}
    if "sessionToken" in names:
        return {"Authorization": f"Bearer {token}"}
    return {"Authorization": f"Bearer {stack.test_secret}"} if names else {}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.label)
async def test_it_answers_as_described(operation: Any, sandboxed: Stack) -> None:
    """Generated calls, with the operation's credentials and, alternately, without."""
    await sandboxed.connect_test()
    token = await sandboxed.token(secret=sandboxed.test_secret)
    known = keys(operation, sandboxed, token)
    is_metered = any("User" in one.get("$ref", "") for one in operation.definition.raw.get("parameters", ()))

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[hypothesis.Phase.generate],  # a failing call is readable as it is
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy(), is_let_in=hypothesis.strategies.integers(0, 3).map(bool))
    def call(case: Any, is_let_in: bool) -> None:
        headers = dict(case.headers or {})
        if is_let_in:
            headers |= known
            if headers.pop("x-wattfare-grant", None) is None and is_metered:
                headers["x-wattfare-user"] = USER
        case.headers = headers
        case.call_and_validate(base_url=sandboxed.url, checks=CHECKS)

    await asyncio.to_thread(call)
