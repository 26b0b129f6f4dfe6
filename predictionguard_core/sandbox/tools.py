from __future__ import annotations
from dataclasses import dataclass
from typing import Any
from predictionguard_core.sandbox.conversation import Conversation

@dataclass(frozen=True)
class Call:
    id: str
    name: str
    arguments: str
    def wire(self) -> dict[str, Any]:
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}

def choose(c: Conversation) -> list[Call]:
    return []
