"""A rules file that changes while the server runs: taken over when good, refused when not, never half."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TextIO

import pytest

from tests.gates import until
from turnout.serving.decision.routes import Reason
from turnout.serving.decision.rules import Facts, Rules
from turnout.serving.decision.rules.watching import RulesFile
from turnout.serving.errors import RulesRefused
from turnout.serving.router.prompt import prompt_from_text

STRONG = 'otherwise = "strong"\n'
POLL_S = 0.02


def accept(rules: Rules) -> None:
    """Know every name."""


def refuse_policies(rules: Rules) -> None:
    if rules.spec.policy is not None:
        raise RulesRefused("policy: not served")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "rules.toml"
    path.write_text("")
    return path


def replace(path: Path, text: str) -> None:
    """Write as a careful operator does: beside, then over."""
    beside = path.with_suffix(".new")
    beside.write_text(text)
    beside.replace(path)


def rewrite(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


def open_to_write(path: Path) -> TextIO:
    return path.open("w")


@contextlib.asynccontextmanager
async def watched(path: Path) -> AsyncIterator[RulesFile]:
    file = RulesFile(path, refuse_policies, POLL_S)
    task = asyncio.create_task(file.watch())
    try:
        yield file
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def is_strong(file: RulesFile) -> bool:
    return file.rules.before(Facts(prompt_from_text("Why?"))).reason is Reason.RULE


def test_a_bad_file_at_the_start_is_refused(path: Path):
    path.write_text("polcy = 1")
    with pytest.raises(RulesRefused, match="polcy"):
        RulesFile(path, accept)
    path.write_text('policy = "p"')
    with pytest.raises(RulesRefused, match=r"rules\.toml: policy: not served"):
        RulesFile(path, refuse_policies)


def test_a_changed_file_is_taken_over_within_two_looks(path: Path):
    async def scenario() -> None:
        async with watched(path) as file:
            assert not is_strong(file)
            replace(path, STRONG)
            await until(lambda: is_strong(file))
            rewrite(path, "")
            await until(lambda: not is_strong(file))
            assert (file.reloads, file.refusals, file.refusal) == (2, 0, None)

    asyncio.run(scenario())


def test_a_change_that_keeps_size_and_time_is_seen_by_the_inode(path: Path):
    path.write_text('otherwise = "model"  \n')
    before = path.stat()
    beside = path.with_suffix(".beside")
    beside.write_text('otherwise = "strong" \n')
    os.utime(beside, ns=(before.st_atime_ns, before.st_mtime_ns))

    async def scenario() -> None:
        async with watched(path) as file:
            os.replace(beside, path)  # noqa: PTH105  # pathlib's would be taken for slow work
            await until(lambda: is_strong(file))

    asyncio.run(scenario())
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


@pytest.mark.parametrize("bad", ["otherwise = ", 'otherwise = "weak"', 'policy = "p"', None])
def test_a_bad_file_is_refused_once_and_the_old_rules_go_on(
    path: Path, bad: str | None, caplog: pytest.LogCaptureFixture
):
    path.write_text(STRONG)

    async def scenario() -> None:
        async with watched(path) as file:
            with caplog.at_level(logging.ERROR, "turnout.rules"):
                remove(path) if bad is None else replace(path, bad)
                await until(lambda: file.refusals > 0)
                await asyncio.sleep(5 * POLL_S)
            assert (file.refusals, file.reloads) == (1, 0)
            assert is_strong(file)
            assert file.refusal is not None
            assert [record.message for record in caplog.records] == [
                f"rules refused, the old ones go on: {file.refusal}"
            ]
            replace(path, "")
            await until(lambda: not is_strong(file))
            assert (file.reloads, file.refusal) == (1, None)

    asyncio.run(scenario())


def test_a_file_that_is_still_written_is_not_read(path: Path):
    """The first half of a file may be valid: here it lacks the rule that keeps requests strong."""

    path.write_text(STRONG)

    async def scenario() -> None:
        async with watched(path) as file:
            with open_to_write(path) as growing:
                for line in range(30):
                    growing.write(f"# {line}\n")
                    growing.flush()
                    await asyncio.sleep(POLL_S / 4)
                    assert is_strong(file)
                growing.write(STRONG)
            await asyncio.sleep(5 * POLL_S)
            assert is_strong(file)
            assert (file.reloads, file.refusals) == (0, 0)

    asyncio.run(scenario())


def test_reload_does_not_wait_for_a_look(path: Path):
    file = RulesFile(path, refuse_policies)
    path.write_text(STRONG)
    assert file.reload()
    assert is_strong(file)
    path.write_text("nonsense")
    assert not file.reload()
    assert (file.reloads, file.refusals) == (1, 1)


def test_the_same_content_again_is_no_change(path: Path):
    file = RulesFile(path, accept)
    before = file.rules
    path.write_text("# a comment\n")
    assert file.reload()
    assert file.rules is before
    assert file.reloads == 0


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EIO, errno.ESTALE])
def test_failed_look_refuses_nothing_and_the_change_is_taken_once_seen(
    path: Path, number: int, monkeypatch: pytest.MonkeyPatch
):
    fails = False

    def failing(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(of: Path, *words: Any, **more: Any) -> Any:
            if fails:
                raise OSError(number, os.strerror(number), str(of))
            return real(of, *words, **more)

        return call

    for name in ("stat", "open"):
        monkeypatch.setattr(Path, name, failing(getattr(Path, name)))
    told: list[str] = []

    async def check() -> None:
        nonlocal fails
        file = RulesFile(path, accept, POLL_S, told=told.append)
        task = asyncio.create_task(file.watch())
        replace(path, STRONG)
        fails = True
        assert not file.reload()
        await asyncio.sleep(10 * POLL_S)
        fails = False
        await until(lambda: is_strong(file), 60)
        task.cancel()

    asyncio.run(check())
    assert told[-1] == "ok"
    assert set(told) == {"unread", "ok"}


def test_refusals_and_reloads_seen_by_the_watch_are_told(path: Path):
    told: list[str] = []

    async def check() -> None:
        file = RulesFile(path, accept, POLL_S, told=told.append)
        task = asyncio.create_task(file.watch())
        replace(path, "polcy = 1")
        await until(lambda: told == ["refused"], 60)
        replace(path, STRONG)
        await until(lambda: told == ["refused", "ok"], 60)
        task.cancel()

    asyncio.run(check())
