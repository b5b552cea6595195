"""The table of simulated models: price, behaviour and a sentence of documentation each.

A name with `<…>` is a family: `sandbox/slow-<ms>` answers to `sandbox/slow-250`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum


class Fault(Enum):
    """Faults of an answer, streamed or not. Shapes A to D were recorded from OpenRouter inside a 200."""

    NONE = "finish chunk, usage chunk, [DONE]"
    REFUSED = "an error status before any output"
    BARE_ERROR = "shape A: one error and nothing else; not streamed: shape D without choices"
    ERROR_BILLED = "shape B: an error, then billed usage, no [DONE]; not streamed: shape D inside the choice"
    ERROR_WITH_USAGE = "shape C: error and usage of cost 0 in one chunk, then [DONE]"
    ERROR_LAST = "half the answer, then the documented error chunk; not billed"
    USAGE_MISSING = "no usage at all, though billed"
    COST_MISSING = "usage without cost, though billed"
    COST_NULL = "usage with a null cost, though billed"
    USAGE_DOUBLED = "two usage chunks, the first at half the cost; the last one is true"
    CUT = "half the answer, then the connection drops inside a chunk"
    SILENT = "half the answer, then silence on an open connection"
    HANGING = "a whole answer, after which the connection stays open"


class Abort(Enum):
    """What is billed when the client hangs up during a stream."""

    PRODUCED = "the prompt and the tokens produced so far; nothing before the first token"
    FULL = "the complete answer, as with providers that cannot be stopped"
    NOTHING = "nothing"


@dataclass(frozen=True)
class Override:
    """Other prices (USD per token) for prompts strictly longer than `min_prompt_tokens`."""

    min_prompt_tokens: int
    prompt: str
    completion: str


@dataclass(frozen=True)
class ModelPrice:
    """Decimal strings: USD per token, and per request if `request` is set. `-1`: the price is not known beforehand."""

    prompt: str
    completion: str
    request: str = ""
    others: tuple[tuple[str, str], ...] = ()
    overrides: tuple[Override, ...] = ()

    def pricing(self) -> dict[str, object]:
        """Return the `pricing` object of the model list, which omits absent extras."""
        listed: dict[str, object] = {"prompt": self.prompt, "completion": self.completion}
        if self.request:
            listed["request"] = self.request
        listed.update(self.others)
        if self.overrides:
            listed["overrides"] = [vars(override) for override in self.overrides]
        return listed

    def start_usd(self, prompt_tokens: int) -> Decimal:
        """Return the cost of the prompt and the request in USD."""
        prompt, _ = self._rates(prompt_tokens)
        return prompt_tokens * Decimal(prompt) + Decimal(self.request or 0)

    def output_usd(self, prompt_tokens: int, completion_tokens: int) -> Decimal:
        """Return the cost in USD of a completion after a prompt of that length."""
        _, completion = self._rates(prompt_tokens)
        return completion_tokens * Decimal(completion)

    def _rates(self, prompt_tokens: int) -> tuple[str, str]:
        rates = (self.prompt, self.completion)
        for override in self.overrides:
            if prompt_tokens > override.min_prompt_tokens:
                rates = (override.prompt, override.completion)
        return rates


@dataclass(frozen=True)
class ErrorAnswer:
    """An error instead of an answer. `code`: the HTTP status, or the code inside the stream of a 200."""

    code: int
    message: str
    metadata: Mapping[str, object] | None = None
    retry_after_seconds: int | None = None
    coded: bool = True
    with_user: bool = True


_ORDINARY = ModelPrice("0.000001", "0.000002")
_UNKNOWN = ModelPrice("-1", "-1")
_FREE = ModelPrice("0", "0")
_MINI = ModelPrice("0.00000015", "0.0000006", others=(("input_cache_read", "0.000000075"),))
_PROVIDER_FAULT = ErrorAnswer(502, "Provider returned error", {"raw": '{"code":502}', "provider_name": "Sandbox"})


@dataclass(frozen=True)
class Model:
    """One row. `price`: listed; `charged`: billed, if different; `given_usd`: a fixed cost, independent of tokens."""

    name: str
    does: str
    fault: Fault = Fault.NONE
    price: ModelPrice = _ORDINARY
    charged: ModelPrice | None = None
    given_usd: str | None = None
    error: ErrorAnswer = _PROVIDER_FAULT
    abort: Abort = Abort.PRODUCED
    pause_ms: int = 0
    max_completion_tokens: int = 4096
    context_length: int = 128_000
    canonical_slug: str = ""
    provider: str = "Sandbox"
    is_byok: bool = False
    states_byok: bool = True
    header_id: bool = True
    comments_between: bool = False
    split_bytes: int = 0
    examples: tuple[str, ...] = ()


_LIMITS = {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1759845420000"}
_NO_CREDIT = "Insufficient credits. Add more using https://openrouter.ai/credits"
_KEY_LIMIT = "Key limit exceeded (total limit). Manage it using https://openrouter.ai/settings/keys"
NO_CREDIT = ErrorAnswer(402, _NO_CREDIT, {"provider_name": None})
KEY_LIMIT = ErrorAnswer(403, _KEY_LIMIT, with_user=False)
USER_NOT_FOUND = ErrorAnswer(401, "User not found.", with_user=False)
_RAW_400 = '{"error":{"message":"temperature is out of range","type":"invalid_request_error"}}'
_PROVIDER_400 = ErrorAnswer(400, "Provider returned error", {"raw": _RAW_400, "provider_name": "Sandbox"})
_TOO_MANY = ErrorAnswer(429, "Rate limit exceeded: free-models-per-min. ", {"headers": _LIMITS}, retry_after_seconds=7)

_ANSWERS = (
    Model("sandbox/echo", "Repeats the last user message, one token a chunk."),
    Model("sandbox/slow", "Echo with 100 ms before each token.", pause_ms=100),
    Model(
        "sandbox/slow-<ms>",
        "Echo with that many milliseconds (0 to 600000) before each token.",
        examples=("sandbox/slow-10", "sandbox/slow-1000"),
    ),
    Model(
        "sandbox/long-<n>",
        "Answers with n tokens (1 to 1000000), one a chunk.",
        context_length=1_100_000,
        examples=("sandbox/long-20", "sandbox/long-1000"),
    ),
    Model("sandbox/free", "Echo at price and cost 0.", price=_FREE),
    Model(
        "sandbox/unpriced",
        "Echo whose listed price is -1; billed like sandbox/echo.",
        price=_UNKNOWN,
        charged=_ORDINARY,
    ),
    Model(
        "sandbox/price-<usd>",
        "Echo that costs exactly that many USD a request, listed as the price of a request; also in test mode.",
        price=_FREE,
        given_usd="<usd>",
        examples=tuple(f"sandbox/price-{usd}" for usd in ("0.0001", "0.001", "0.01", "0.0123", "0.1", "1", "5")),
    ),
    Model(
        "sandbox/overrun",
        "Echo that states a cost of 0.05 USD, far above its list price for at most 16 tokens; also in test mode.",
        given_usd="0.05",
        max_completion_tokens=16,
    ),
    Model("sandbox/exponent", "Echo that states its cost as 9e-7; also in test mode.", given_usd="9e-7"),
    Model(
        "sandbox/float-noise",
        "Echo that states a cost of 0.0076509169000000005; also in test mode.",
        given_usd="0.0076509169000000005",
    ),
    Model(
        "sandbox/byok", "Echo paid by the user's own provider key: cost 0, is_byok, upstream cost set.", is_byok=True
    ),
    Model("sandbox/byok-missing", "Echo whose usage does not say is_byok.", states_byok=False),
    Model("sandbox/no-id-header", "Echo without X-Generation-Id: the id is only in the body.", header_id=False),
    Model("sandbox/comments", "Echo with a comment between the tokens too.", comments_between=True),
    Model("sandbox/split", "Echo sent in pieces of 7 bytes, so that lines and numbers are split.", split_bytes=7),
    Model("sandbox/abort-full", "Slow echo billed in full when the client hangs up.", abort=Abort.FULL, pause_ms=100),
    Model("sandbox/abort-free", "Slow echo billed nothing when hung up on.", abort=Abort.NOTHING, pause_ms=100),
    Model("sandbox/usage-missing", "Billed, but no usage in the answer: only /generation knows.", Fault.USAGE_MISSING),
    Model("sandbox/cost-missing", "Usage without cost: only /generation knows it.", Fault.COST_MISSING),
    Model("sandbox/cost-null", "Usage with a cost of null: only /generation knows it.", Fault.COST_NULL),
    Model("sandbox/usage-doubled", "Two usage chunks of different cost; the last one is billed.", Fault.USAGE_DOUBLED),
    Model("sandbox/cut", "Half an answer, then the connection drops inside a chunk; that half is billed.", Fault.CUT),
    Model("sandbox/silent", "Half an answer, then silence on an open connection.", Fault.SILENT),
    Model("sandbox/hang-after-done", "A whole answer, after which the connection stays open.", Fault.HANGING),
)

_FAULTS_IN_200 = (
    Model(
        "sandbox/stream-error",
        "Shape A: a bare 502 inside a 200, no id, no usage, no [DONE]; not streamed: a JSON error in a 200.",
        Fault.BARE_ERROR,
        error=ErrorAnswer(502, "Upstream error from Sandbox: the engine stopped.", {"provider_name": "Sandbox"}),
    ),
    Model(
        "sandbox/stream-error-402", "Shape A about funding: a bare 402 inside a 200.", Fault.BARE_ERROR, error=NO_CREDIT
    ),
    Model(
        "sandbox/stream-error-403-key", "Shape A about the key: a bare 403 in a 200.", Fault.BARE_ERROR, error=KEY_LIMIT
    ),
    Model(
        "sandbox/stream-error-billed",
        "Shape B: a 502, then a billed usage chunk, no [DONE]; not streamed: the error stands in the choice.",
        Fault.ERROR_BILLED,
    ),
    Model(
        "sandbox/stream-error-usage",
        "Shape C: a 400 and a usage of cost 0 in one chunk, then [DONE].",
        Fault.ERROR_WITH_USAGE,
        error=ErrorAnswer(400, "Token limit reached"),
    ),
    Model(
        "sandbox/stream-error-last",
        "The documented form: half an answer, then an error chunk with finish_reason error; not billed.",
        Fault.ERROR_LAST,
        error=ErrorAnswer(429, "Rate limit exceeded", {"error_type": "rate_limit_exceeded"}),
    ),
)


def _fail(suffix: str, does: str, error: ErrorAnswer) -> Model:
    return Model(f"sandbox/error-{suffix}", does, Fault.REFUSED, error=error)


_MODERATION = {
    "reasons": ["violence"],
    "flagged_input": "…",
    "provider_name": "Sandbox",
    "model_slug": "sandbox/error-403-moderation",
}
_ERRORS = (
    _fail("400", "400 of the provider, its text as a JSON string in metadata.raw.", _PROVIDER_400),
    _fail("401", "401: the key is not known.", USER_NOT_FOUND),
    _fail("402", "402: the account lacks credit.", NO_CREDIT),
    _fail("403-key", "403: the key's own limit is used up.", KEY_LIMIT),
    _fail(
        "403-moderation",
        "403: the input was flagged, which is no fault of the key.",
        ErrorAnswer(403, "Your input was flagged by moderation", _MODERATION),
    ),
    _fail("404", "404: no endpoint for the model.", ErrorAnswer(404, "No endpoints found for sandbox/error-404.")),
    _fail(
        "404-uncoded",
        "404 in the newer form: error_type and http_status instead of code.",
        ErrorAnswer(404, "No endpoints are available for sandbox/error-404-uncoded.", coded=False),
    ),
    _fail("408", "408: timed out before any output.", ErrorAnswer(408, "Operation timed out. Please try again later.")),
    _fail("413", "413: the request is too large.", ErrorAnswer(413, "Request payload is too large.")),
    _fail("422", "422: the request cannot be processed.", ErrorAnswer(422, "Unprocessable request.")),
    _fail("429", "429 with Retry-After: 7.", _TOO_MANY),
    _fail("500", "500 with a masked message.", ErrorAnswer(500, "Internal Server Error")),
    _fail("502", "502: the provider failed.", _PROVIDER_FAULT),
    _fail("503", "503 with Retry-After: 3.", ErrorAnswer(503, "No provider is available", retry_after_seconds=3)),
    _fail("504", "504: the provider timed out.", ErrorAnswer(504, "The provider timed out")),
    _fail("524", "524: the edge timed out.", ErrorAnswer(524, "A timeout occurred")),
    _fail("529", "529: the provider is overloaded.", ErrorAnswer(529, "Provider is temporarily overloaded")),
)

_FAMILIAR = (
    Model(
        "openai/gpt-4o-mini",
        "Echo at a usual small price.",
        price=_MINI,
        max_completion_tokens=16_384,
        provider="OpenAI",
    ),
    Model(
        "anthropic/claude-sonnet-4",
        "Echo under a dated slug, dearer above 200000 prompt tokens (overrides).",
        price=ModelPrice(
            "0.000003",
            "0.000015",
            others=(("web_search", "0.01"), ("input_cache_read", "0.0000003"), ("input_cache_write", "0.00000375")),
            overrides=(Override(200_000, "0.000006", "0.0000225"),),
        ),
        max_completion_tokens=64_000,
        context_length=1_000_000,
        canonical_slug="anthropic/claude-4-sonnet-20250522",
        provider="Anthropic",
    ),
    Model(
        "openai/gpt-4o-search-preview",
        "Echo with a price for each request.",
        price=ModelPrice("0.0000025", "0.00001", request="0.035"),
        max_completion_tokens=16_384,
        provider="OpenAI",
    ),
    Model(
        "openrouter/auto",
        "A router: price -1, answered and billed as openai/gpt-4o-mini.",
        price=_UNKNOWN,
        charged=_MINI,
        max_completion_tokens=16_384,
        context_length=2_000_000,
        canonical_slug="openai/gpt-4o-mini",
        provider="OpenAI",
    ),
)

MODELS: tuple[Model, ...] = _ANSWERS + _FAULTS_IN_200 + _ERRORS + _FAMILIAR
ECHO = _ANSWERS[0]

_BY_NAME = {model.name: model for model in MODELS if "<" not in model.name}
_FAMILIES = {model.name.partition("<")[0]: model for model in MODELS if "<" in model.name}

# At most nine decimals, so that a fixed price is a whole number of nano-USD.
_PARAMETER = {
    "sandbox/slow-": re.compile(r"(?:0|[1-9]\d{0,4}|[1-5]\d{5}|600000)\Z"),
    "sandbox/long-": re.compile(r"(?:[1-9]\d{0,5}|1000000)\Z"),
    "sandbox/price-": re.compile(r"(?:0|[1-9]\d{0,3})(?:\.\d{1,9})?\Z"),
}


@dataclass(frozen=True)
class ModelVariant:
    """A requested model: its row, full name and, for a family, its parameter."""

    model: Model
    name: str
    parameter: str = ""

    @property
    def pause_ms(self) -> int:
        """Pause before each token, in milliseconds."""
        return int(self.parameter) if self.model.name == "sandbox/slow-<ms>" else self.model.pause_ms

    @property
    def length_tokens(self) -> int | None:
        """Tokens of an answer of fixed length; None: repeat the last user message."""
        return int(self.parameter) if self.model.name == "sandbox/long-<n>" else None

    @property
    def given_usd(self) -> str | None:
        """The fixed cost in USD, independent of tokens; None without one."""
        return self.parameter if self.model.given_usd == "<usd>" else self.model.given_usd

    @property
    def max_completion_tokens(self) -> int:
        """The most tokens of this model's answers."""
        return self.length_tokens or self.model.max_completion_tokens

    @property
    def listed(self) -> ModelPrice:
        """The price in the model list; a fixed price is listed as the price of a request."""
        return ModelPrice("0", "0", request=self.parameter) if self.model.given_usd == "<usd>" else self.model.price


def find_variant(name: str) -> ModelVariant | None:
    """Return the model called `name`, or None when the table has no such model."""
    if name in _BY_NAME:
        return ModelVariant(_BY_NAME[name], name)
    for prefix, model in _FAMILIES.items():
        if name.startswith(prefix) and _PARAMETER[prefix].match(name, len(prefix)):
            return ModelVariant(model, name, name[len(prefix) :])
    return None


def listed_variants() -> Iterator[ModelVariant]:
    """Yield every listed model; of a family its examples."""
    for model in MODELS:
        for name in model.examples or (model.name,):
            variant = find_variant(name)
            if variant is not None:
                yield variant


def model_entry(variant: ModelVariant) -> dict[str, object]:
    """Return the model's entry in `GET /api/v1/models`."""
    model = variant.model
    return {
        "id": variant.name,
        "canonical_slug": model.canonical_slug or variant.name,
        "name": variant.name,
        "created": 1_767_225_600,
        "description": model.does,
        "context_length": model.context_length,
        "architecture": {"modality": "text->text", "input_modalities": ["text"], "output_modalities": ["text"]},
        "pricing": variant.listed.pricing(),
        "top_provider": {
            "context_length": model.context_length,
            "max_completion_tokens": variant.max_completion_tokens,
            "is_moderated": False,
        },
        "per_request_limits": None,
        "supported_parameters": ["max_tokens", "response_format", "structured_outputs", "tool_choice", "tools"],
    }
