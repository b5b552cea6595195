"""The findings of the doctor's checks."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from gateway.services import Services


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of one check. `mend`: how to repair it; empty if nothing is wrong."""

    what: str
    result: str
    mend: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether something is wrong."""
        return bool(self.mend)


Check = Callable[[Services], AsyncIterator[Finding]]
