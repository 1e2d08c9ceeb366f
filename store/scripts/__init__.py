"""The Lua scripts, read once; each is one transition and is safe to repeat after a lost reply."""

import hashlib
from pathlib import Path

_FOLDER = Path(__file__).parent


class Script:
    """A script's source behind the common prelude, and its SHA-1 for EVALSHA."""

    def __init__(self, name: str) -> None:
        self.name = name
        prelude = (_FOLDER / "prelude.lua").read_text(encoding="utf-8")
        self.source = prelude + (_FOLDER / f"{name}.lua").read_text(encoding="utf-8")
        self.sha = hashlib.sha1(self.source.encode(), usedforsecurity=False).hexdigest()


SCRIPTS = {
    name: Script(name)
    for name in (
        "accept",
        "ack",
        "answer",
        "beat",
        "breaker",
        "budget_report",
        "budget_take",
        "cache_begin",
        "cache_change",
        "cache_fill",
        "cache_join",
        "cache_lease",
        "cache_let_go",
        "cache_paid",
        "cancel",
        "claim",
        "count_refused",
        "effecting",
        "fall_back",
        "finish",
        "give_back",
        "hold",
        "lead",
        "popularity_came",
        "popularity_claim",
        "popularity_forget",
        "popularity_note",
        "popularity_tell",
        "publish",
        "put_hash",
        "release",
        "renew",
        "resign",
        "say",
        "set_chain",
        "sweep",
        "take",
        "unbury",
        "undelivered",
        "watch",
    )
}
