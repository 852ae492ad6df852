"""Traffic of a real server that explores: requests over a socket, outcomes of both models, and the compacted log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.running import lifecycle_of, server_in_loop
from tests.training.spools import compacted
from turnout.serving.bundles.bundle import load_bundle
from turnout.serving.client import AsyncRouter
from turnout.serving.service import decision_log
from turnout.serving.spool.decision import LogDecisions
from turnout.serving.wire.asking import RouteItem
from turnout.training.compaction.store import opened

BATCH = 100


def explored_log(
    bundle: Path, folder: Path, rows: Sequence[dict[str, Any]], mode: str = "digest", *, both: float = 1.0
) -> list[Path]:
    """Serve the requests of gateway rows, report the scores of both answers where both are wanted, and compact.

    Args:
        bundle: answers.
        folder: gets rules, spool and log.
        rows: as `turnout.training.sample.sample` makes them.
        mode: what is kept of prompts.
        both: share of sessions whose requests both models answer.

    Returns:
        The files of decisions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rules, spool = folder / "rules.toml", folder / "spool"
    rules.write_text(f"[exploration]\nboth = {both}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decision_log, "MAX_LATE_S", 600.0)  # a busy machine takes its time for lessons
        asyncio.run(_serve(bundle, rows, {"rules": rules, "spool": spool, "log_decisions": LogDecisions(mode)}))
    compacted(spool, folder / "logs")
    with opened(folder / "logs") as store:
        return store.decision_files()


async def _serve(bundle: Path, rows: Sequence[dict[str, Any]], settings: dict[str, Any]) -> None:
    async with (
        server_in_loop(lifecycle_of(load_bundle(bundle), cache_items=100), **settings) as (server, address),
        AsyncRouter(address, timeout_s=600) as router,
    ):
        for start in range(0, len(rows), BATCH):
            some = rows[start : start + BATCH]
            routed = await router.route_batch([_item(row) for row in some])
            assert {one.fallback_reason for one in routed} == {None}
            wanted = [row for row, one in zip(some, routed, strict=True) if one.wants_both]
            reports = [
                router.report_outcome(row["id"], timeout_s=600, model=model, score=answer["score"])
                for row in wanted
                for model, answer in row["responses"].items()
            ]
            assert all(await asyncio.gather(*reports))
        log = server.service.decision_log
        while log.written + log.dropped < log.offered:  # noqa: ASYNC110  # written on the log's thread
            await asyncio.sleep(0.05)
        assert (log.written, log.dropped, log.untaught) == (len(rows), 0, 0)


def _item(row: dict[str, Any]) -> RouteItem:
    return RouteItem(
        openai_body=msgspec.json.encode(row["request"]),
        request_id=row["id"],
        session_id=row.get("session_id") or "",
        task=row.get("task") or "",
    )
