"""The wire format of /embeddings: one deterministic vector for each input, never streamed.

As recorded in August 2026: usage and id come after the vectors, and no header has the id.
"""

import base64
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import shake_256

from simulator.chat import ChatForm, plain_error
from simulator.variants import Fault
from simulator.wire import AnswerPlan, cost_members

DEFAULT_DIMENSIONS = 256
# As many as the largest known models have; such a vector takes a millisecond.
MAX_DIMENSIONS = 4096
# OpenAI's limit of 2048 inputs at the default; more would block the gateway, which simulates test mode in-process.
MAX_VALUES = 2048 * DEFAULT_DIMENSIONS


@dataclass(frozen=True)
class EmbeddingsForm(ChatForm):
    """`inputs`: texts or lists of tokens. `is_packed`: base64 of 32-bit floats, little-endian, instead of numbers."""

    header_id: bool = False
    inputs: tuple[object, ...] = ()
    dimensions: int = DEFAULT_DIMENSIONS
    is_packed: bool = False

    def document(self, plan: AnswerPlan) -> dict[str, object]:
        """Return the vectors, or none with an error."""
        vectors = [] if plan.is_failed else [self._vector(each) for each in self.inputs]
        listed = [{"object": "embedding", "index": index, "embedding": each} for index, each in enumerate(vectors)]
        answer: dict[str, object] = {"object": "list", "data": listed, "model": plan.slug.rpartition("/")[2]}
        if plan.is_failed:
            answer["error"] = plain_error(plan.model.error)
        if plan.model.fault is not Fault.USAGE_MISSING:
            tokens = {"prompt_tokens": plan.prompt_tokens, "total_tokens": plan.prompt_tokens}
            answer["usage"] = {**tokens, **cost_members(plan)}
        return {**answer, "provider": plan.model.provider, "id": plan.id}

    def _vector(self, given: object) -> object:
        """Return a vector of length 1."""
        drawn = shake_256(repr(given).encode()).digest(2 * self.dimensions)
        numbers = [drawn[at] * 256 + drawn[at + 1] - 32_767.5 for at in range(0, len(drawn), 2)]
        length = math.sqrt(sum(number * number for number in numbers))
        form = f"<{self.dimensions}f"
        packed = struct.pack(form, *(number / length for number in numbers))
        return base64.b64encode(packed).decode() if self.is_packed else list(struct.unpack(form, packed))


def embeddings_form(body: Mapping[str, object], inputs: list[object]) -> EmbeddingsForm | str:
    """Return the form of the requested answer, or what is wrong with the request."""
    requested = body.get("dimensions")
    dimensions = DEFAULT_DIMENSIONS if requested is None else requested
    if not isinstance(dimensions, int) or isinstance(dimensions, bool) or not 1 <= dimensions <= MAX_DIMENSIONS:
        return f"dimensions must be a whole number from 1 to {MAX_DIMENSIONS}"
    if not all(isinstance(each, str) or _is_tokens(each) for each in inputs):
        return "input must be texts or lists of tokens"
    if len(inputs) * dimensions > MAX_VALUES:
        return f"input and dimensions ask for more than {MAX_VALUES} numbers"
    return EmbeddingsForm(
        inputs=tuple(inputs), dimensions=dimensions, is_packed=body.get("encoding_format") == "base64"
    )


def _is_tokens(given: object) -> bool:
    return isinstance(given, list) and all(isinstance(each, int) for each in given)
