"""The least output tokens of a shortened answer, which are more if a truncated answer is worthless."""

from collections.abc import Mapping

from gateway.ledger.worst_case import MIN_OUTPUT_TOKENS, MIN_WHOLE_TOKENS

# Without any of these fields, the least is MIN_OUTPUT_TOKENS.
TELLING_FIELDS = frozenset(
    {
        *("tools", "functions", "response_format", "output_config", "output_format", "text", "structured_outputs"),
        *("reasoning", "reasoning_effort", "thinking"),
    }
)
_PLAIN_FORMATS = (None, "text")
_NO_EFFORT = (None, "none")


def fewest_tokens(document: Mapping[str, object], thinking_tokens: int) -> int:
    """Return the least output tokens of a useful answer (CONTRACT §3.6).

    `thinking_tokens`: the reasoning budget, which is spent before the answer.
    """
    is_whole = thinking_tokens > 0 or _is_worthless_cut(document)
    return thinking_tokens + (MIN_WHOLE_TOKENS if is_whole else MIN_OUTPUT_TOKENS)


def _is_worthless_cut(document: Mapping[str, object]) -> bool:
    return bool(
        document.get("tools")
        or document.get("functions")
        or document.get("structured_outputs")
        or _names_format(document.get("response_format"))
        or _names_format(document.get("output_format"))
        or _names_format(_member(document.get("output_config"), "format"))
        or _names_format(_member(document.get("text"), "format"))
        or _reasons(document)
    )


def _names_format(shape: object) -> bool:
    """Return whether the answer must be JSON, with or without a schema."""
    return isinstance(shape, dict) and shape.get("type") not in _PLAIN_FORMATS


def _reasons(document: Mapping[str, object]) -> bool:
    """Return whether reasoning is requested, which is generated before the answer."""
    reasoning, thinking = document.get("reasoning"), document.get("thinking")
    is_asked = isinstance(reasoning, dict) and (
        reasoning.get("enabled") is True
        or reasoning.get("effort") not in _NO_EFFORT
        or bool(reasoning.get("max_tokens"))
    )
    is_thinking = isinstance(thinking, dict) and thinking.get("type") in ("enabled", "adaptive")
    return is_asked or is_thinking or document.get("reasoning_effort") not in _NO_EFFORT


def _member(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None
