"""What the ledger's model test knows of single requests, and what their processes remember of them."""

from dataclasses import dataclass, field, replace

from gateway.ledger.outcomes import Admission, Settlement


@dataclass(slots=True)
class ModelHold:
    """The model's state of one request. `state` '': there is no hold, or no longer one."""

    state: str = ""
    nano: int = 0
    cost: int = 0
    admission: Admission | None = None
    costs: list[int] = field(default_factory=list)
    """What was booked for it, difference by difference."""

    @property
    def is_beyond(self) -> bool:
        """Whether it may cost more than is held for it."""
        return self.admission is not None and self.admission.is_beyond


class Remembered(dict[str, Admission]):
    """The admissions as their processes remember them, also those that Redis has lost."""

    def owed(self, request_id: str, status: str, cost: int) -> tuple[Settlement, Admission | None]:
        """Return a settlement: at an odd cost as its own process makes it, else as a sweeper that remembers nothing."""
        held = self.get(request_id) if cost % 2 else None
        return (Settlement(status, cost, "gen-1", "m2") if held else Settlement(status, cost)), held

    def age(self, days: int) -> None:
        """Let days go by."""
        for request_id, known in self.items():
            nano, day, *rest = known.admitted.split(b"\n")
            self[request_id] = replace(known, admitted=b"\n".join((nano, b"%d" % (int(day) - days), *rest)))
