"""Harness text: what harnesses add is left out, what the user wrote stays, and no text makes it slow."""

from __future__ import annotations

import hashlib
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from turnout.serving.router.harness import HARNESS_RULES, LATEST_HARNESS_RULES, strip_harness

REMINDER = "<system-reminder>\nThe to-do list is empty.\n</system-reminder>"
TASK = "Rename the function in util.py"
CLINE = "You are Cline, a highly skilled software engineer with extensive knowledge.\n\nTOOL USE"
RESULT = "[read_file for 'util.py'] Result:\ndef f(): ..."


def conversation(*messages: tuple[str, str]) -> str:
    return "\n\n".join(f"{role}:\n{text}" for role, text in messages)


def stripped(text: str) -> str:
    return strip_harness(text, 1)


@pytest.mark.parametrize(
    "text",
    [
        f"{TASK}\n\n{REMINDER}",
        f"{REMINDER}\n{TASK}",
        f"{REMINDER}\n\n{TASK}\n{REMINDER}\n",
        f"{TASK}\n<environment_details>\n# Time\n9:00\n</environment_details>  \r\n",
        f"<system-reminder>a\n{REMINDER}\n{TASK}",
        conversation(("system", CLINE), ("user", TASK)),
        conversation(("system", "You are a helpful assistant."), ("user", f"{TASK}\n{REMINDER}")),
        conversation(("developer", " You are Codex, based on GPT-5. More."), ("user", REMINDER), ("user", TASK)),
        conversation(("user", TASK), ("tool", "42 files\n\nall fine")),
        conversation(("user", TASK), ("user", RESULT)),
    ],
)
def test_harness_text_is_left_out_and_the_task_reads_as_if_sent_alone(text: str):
    assert stripped(text) == TASK


def test_other_messages_of_a_conversation_keep_their_order_and_headings():
    text = conversation(
        ("system", "Answer in French."), ("user", TASK), ("assistant", "Done."), ("tool", "ok"), ("user", "And g?")
    )
    assert stripped(text) == conversation(
        ("system", "Answer in French."), ("user", TASK), ("assistant", "Done."), ("user", "And g?")
    )


@pytest.mark.parametrize(
    "text",
    [
        "",
        TASK,
        "What does <system-reminder> mean, and </system-reminder>?",
        "<system-reminder>\nnever closed",
        "closed only\n</system-reminder>",
        "<system-reminder>\nclosed inside a line </system-reminder> here",
        "<div>\n<b>a</b>\n</div>",
        "You are Cline, a highly skilled software engineer: write his biography.",
        "You are a helpful assistant.",
        "tool:\nis a word that heads a list\n\nuser:\nis another",
        "See below.\n\ntool:\nsaw\n\nuser:\ncarpenter",
        conversation(("system", "You are a helpful assistant. Answer in French."), ("user", TASK)),
        conversation(("user", TASK), ("assistant", "Which?"), ("user", f"{RESULT}\n<feedback>no, util2</feedback>")),
        conversation(("user", TASK), ("user", "[coffee for 'two'] Result:\nhot")),
        conversation(("user", "<system-reminder>\na"), ("assistant", "b\n</system-reminder>")),
    ],
)
def test_what_the_user_wrote_stays(text: str):
    assert stripped(text) == text


@pytest.mark.parametrize(
    "text",
    [
        REMINDER,
        f"{REMINDER}\n\n{REMINDER}",
        conversation(("system", CLINE), ("user", REMINDER)),
        conversation(("system", CLINE), ("tool", "42")),
        conversation(("system", CLINE), ("user", RESULT), ("assistant", "I see.")),
        conversation(("tool", "42")),
    ],
)
def test_prompt_made_only_of_harness_text_keeps_it(text: str):
    assert stripped(text) == text


def test_version_zero_leaves_all_text_as_it_is():
    text = conversation(("system", CLINE), ("user", f"{TASK}\n{REMINDER}"), ("tool", "42"))
    assert strip_harness(text, 0) is text


def test_versions_in_use_never_change():
    digests = {version: hashlib.sha256(repr(rules).encode()).hexdigest()[:16] for version, rules in PINNED.items()}
    assert digests == {1: "df6a01abcd4b1c24"}
    assert set(HARNESS_RULES) == {0, *digests} == set(range(LATEST_HARNESS_RULES + 1))


PINNED = {
    version: (dict(rules.blocks), rules.tools, dict(rules.openings), sorted(rules.defaults))
    for version, rules in HARNESS_RULES.items()
    if rules is not None
}
PIECES = (
    *("user:\n", "tool:\n", "system:\n", "assistant:\n", "\n", "\n\n", " ", "word", "two words\n", TASK),
    *("<system-reminder>", "</system-reminder>", "</system-reminder>\n", "<environment_details>\n"),
    *("</environment_details>", REMINDER, f"{REMINDER}\n", CLINE, "You are a helpful assistant.", RESULT, "\r\n"),
)
texts = st.lists(st.sampled_from(PIECES), max_size=30).map("".join)


@settings(max_examples=600)
@given(texts | st.text(max_size=60))
def test_a_second_time_leaves_nothing_more_out(text: str):
    once = stripped(text)
    assert stripped(once) == once


@settings(max_examples=300)
@given(texts)
def test_something_is_left_of_every_prompt_and_nothing_is_added(text: str):
    left = stripped(text)
    assert bool(left.strip()) == bool(text.strip())
    assert len(left) <= len(text)
    assert set(left.split()) <= set(text.split())


@settings(max_examples=200)
@given(st.text(alphabet="ab <>/\n", max_size=80).filter(lambda text: text.strip() == text))
def test_reminder_after_any_plain_text_is_left_out(text: str):
    assert stripped(f"{text}\n{REMINDER}") == (text or f"\n{REMINDER}")


UNITS = (
    *("<system-reminder>\n", "</system-reminder>\n", "<system-reminder>\n</bash-stdout> x\n", "</bash-stdout>\t\t\tx"),
    *("user:\n\n", "tool:\nx\n\n", "[read_file for ' ", "<", "\n", f"{REMINDER}\n", "system:\nYou are Claude Code\n\n"),
    "<bash-stdout>\n<system-reminder>\n</bash-stdout>\n",
)


@settings(max_examples=40)
@given(st.lists(st.sampled_from(UNITS), min_size=1, max_size=4).map("".join), st.sampled_from(["", "user:\n", "</"]))
def test_time_is_linear_in_the_text(unit: str, start: str):
    def seconds(n_chars: int) -> float:
        text = start + unit * (n_chars // len(unit)) + "</"
        times = []
        for _ in range(3):
            started_s = time.thread_time()
            stripped(text)
            times.append(time.thread_time() - started_s)
        return min(times)

    assert seconds(80_000) < 24 * seconds(10_000) + 0.01  # linear is 8 times, quadratic 64
