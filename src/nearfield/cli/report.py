"""The report of ``nearfield embed``."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Report:
    """What a run did. ``seconds`` and the speeds are of this run alone, the counts of the whole output."""

    output: str
    model: str
    fingerprint: str
    texts: int
    tokens: int
    truncated_texts: int
    truncated_tokens: int
    resumed_at: int
    seconds: float
    texts_per_second: float
    tokens_per_second: float

    def json(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self))

    def text(self) -> str:
        """Return it for people."""
        lines = [
            f"{self.texts:,} texts ({self.tokens:,} tokens) to {self.output}",
            f"  model        {self.model}",
            f"  fingerprint  {self.fingerprint}",
            f"  truncated    {self.truncated_texts:,} texts, {self.truncated_tokens:,} tokens cut off",
            f"  speed        {self.texts_per_second:,.0f} texts/s, {self.tokens_per_second:,.0f} tokens/s",
        ]
        return "\n".join([*lines, f"  resumed at   {self.resumed_at:,}"] if self.resumed_at else lines)
