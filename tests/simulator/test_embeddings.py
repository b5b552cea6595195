"""Vectors are deterministic, of the requested length, as numbers or packed; usage and id come last."""

import base64
import struct
from typing import Any

import pytest

from simulator.embeddings import DEFAULT_DIMENSIONS, MAX_DIMENSIONS
from tests.simulator.asking import ask_in, document


def test_the_answer_has_the_recorded_order() -> None:
    """Usage and id behind the vectors, no id in a header, the model without its vendor, never a stream."""
    answer = ask_in("embeddings", "openai/gpt-4o-mini", stream=True)
    found = document(answer)
    assert list(found) == ["object", "data", "model", "usage", "provider", "id"]
    assert found["id"] == answer.generation_id
    assert str(found["id"]).startswith("gen-emb-")
    assert found["model"] == "gpt-4o-mini"
    assert "X-Generation-Id" not in dict(answer.headers)
    assert list(found["usage"])[:4] == ["prompt_tokens", "total_tokens", "cost", "is_byok"]
    assert answer.completion_tokens == 0


def test_a_vector_is_its_texts_own() -> None:
    """The same for the same text, another for another, of length 1, in the order of the inputs."""
    found = document(ask_in("embeddings", input=["a", "b", "a", [1, 2]]))["data"]
    assert [each["index"] for each in found] == [0, 1, 2, 3]
    first, second, third, _ = [[float(number) for number in each["embedding"]] for each in found]
    assert first == third != second
    assert len(first) == DEFAULT_DIMENSIONS
    assert sum(number * number for number in first) == pytest.approx(1, abs=1e-5)


def test_base64_holds_the_same_numbers() -> None:
    """As 32-bit floats, with the requested dimensions."""
    [plain] = document(ask_in("embeddings", dimensions=8))["data"]
    [packed] = document(ask_in("embeddings", dimensions=8, encoding_format="base64"))["data"]
    assert list(struct.unpack("<8f", base64.b64decode(packed["embedding"]))) == [float(n) for n in plain["embedding"]]


@pytest.mark.parametrize(
    "fields",
    [
        {"dimensions": 0},
        {"dimensions": True},
        {"dimensions": MAX_DIMENSIONS + 1},
        {"input": ["a"] * 2049},
        {"input": [{}]},
        {"input": [[0.5]]},
    ],
)
def test_more_than_can_be_made_is_a_400(fields: dict[str, Any]) -> None:
    """Neither dimensions nor inputs without bounds."""
    assert ask_in("embeddings", **fields).status == 400
