"""What a run came to."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Verdict:
    """What a run came to. `lost` and `wrong` name each case."""

    owed: int = 0
    overtaken: int = 0
    held: int = 0
    accepted: int = 0
    twice_allowed: int = 0
    unknown: int = 0
    lost: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Nothing lost, nothing twice that should not be, nothing else wrong."""
        return not (self.lost or self.twice or self.wrong)
