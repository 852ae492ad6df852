"""Decision logs of the same requests in any mode, by the server's own log: the same ids, times and order."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec

from tests.decision_builders import decided
from tests.training.spools import NOON_S, compacted
from turnout.serving.bundles.bundle import Bundle
from turnout.serving.service.decision_log import DecisionLog
from turnout.serving.spool.decision import LogDecisions
from turnout.serving.spool.framing import RecordKind
from turnout.serving.spool.outcome import Outcome, encode_outcome
from turnout.serving.spool.writer import SpoolLimits, SpoolWriter
from turnout.training.compaction.store import opened
from turnout.training.sample.sample import STRONG, WEAK

KEY = b"k" * 32


def unlike_texts(n: int, seed: int = 0, n_words: int = 14) -> list[str]:
    """Return texts of made-up words, of which no two are alike."""
    rng = Random(seed)

    def word() -> str:
        return "".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(3))

    return [" ".join(word() for _ in range(n_words)) for _ in range(n)]


def decision_log(folder: Path, bundle: Bundle, texts: Sequence[str], mode: str, **fields: Any) -> list[Path]:
    """Log a decision for each text, both answers wanted, with an outcome of each model; compact, return the files.

    Every third weak answer is wrong. `fields` are those of `RouteCall`; a list of `session_id` is one for each text.
    """
    spool = folder / "spool"
    writer = SpoolWriter(spool, SpoolLimits())
    log = DecisionLog(writer, LogDecisions(mode), KEY)
    sessions = fields.pop("session_id", [f"s{number}" for number in range(len(texts))])
    for number, (text, session_id) in enumerate(zip(texts, sessions, strict=True)):
        one = decided(text, f"r{number}")
        log.log(
            msgspec.structs.replace(
                one,
                decided_s=NOON_S + number,
                call=msgspec.structs.replace(one.call, session_id=session_id, **fields),
                decision=msgspec.structs.replace(one.decision, wants_both=True, pair_propensity=0.5),
                manifest=bundle.manifest,
                bundle=bundle,
            )
        )
        for model, score in ((STRONG, 1.0), (WEAK, float(number % 3 > 0))):
            outcome = Outcome(received_s=NOON_S + number, request_id=f"r{number}", model=model, score=score)
            writer.append(RecordKind.OUTCOME, encode_outcome(outcome))
    log.close(within_s=1200.0)  # lessons get the half of it, and a busy machine takes ten times as long
    writer.close()
    log.settle()
    assert (log.written, log.dropped, log.untaught) == (len(texts), 0, 0)
    compacted(spool, folder / "logs")
    with opened(folder / "logs") as store:
        return store.decision_files()
