"""What the meter needs of an answer, in either form: usage, id, errors, the end, whether there was work.

Rule: a scanner reads the body in any split, with bounded memory, and never raises.
"""

from gateway.openrouter.usage import AnswerError, Usage

# The most errors kept of one answer.
MAX_ERRORS = 8


class Scanner:
    """Reads one answer. This class reads nothing: it stands for an answer of which no byte is known."""

    # Initial values are class attributes, because setting them on each instance takes most of the creation time.
    is_event_stream = False
    usage: Usage | None = None
    errors: tuple[AnswerError, ...] = ()
    done = False
    """Whether the answer's end was read; upstream may hang open after it."""
    payload_bytes = 0
    events = 0

    @property
    def has_work(self) -> bool:
        """Whether any output was delivered."""
        return False

    @property
    def is_outdone(self) -> bool:
        """Whether work came with or after the last stated cost, so that more may be owed."""
        return False

    @property
    def generation_id(self) -> str | None:
        """The generation id so far."""
        return None

    @property
    def completion_bytes(self) -> int:
        """The approximate number of bytes of generated text, for the estimate only."""
        return self.payload_bytes

    def feed(self, chunk: bytes) -> None:
        """Read the next bytes of the body, in any split."""

    def finish(self, last: bytes = b"") -> None:
        """Read the rest at the end of the body, complete or not. `last`: what was not fed of a complete one."""
