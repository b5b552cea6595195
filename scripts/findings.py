"""What a check of the doctor finds: that something is well, or what is wrong and how it is mended."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from gateway.services import Services


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `mend`: what to do; empty where nothing is wrong."""

    what: str
    said: str
    mend: str = ""

    @property
    def is_fault(self) -> bool:
        """Whether something is to be mended."""
        return bool(self.mend)


Check = Callable[[Services], AsyncIterator[Finding]]
