"""Paid calls over real HTTP: retries, caps, cache; each against what the endpoint billed."""

from __future__ import annotations

import asyncio
import email.utils
import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.fake_endpoint import API_KEY, FakeEndpoint, Fault, fake_endpoint
from tests.training.judging import KEY_ENV, NO_CAP, PRICE_INPUT, PRICE_OUTPUT, PRICES
from turnout.serving.errors import PriceUnknown
from turnout.training.calls.address import Address
from turnout.training.calls.budget import ROUNDING_USD, Budget, CapReached, Caps
from turnout.training.calls.cache import CallCache, State
from turnout.training.calls.call import Call, CallFailure, Reply, key_of
from turnout.training.calls.caller import Caller, Outcome, Retries
from turnout.training.calls.endpoint import open_client, retry_after_s
from turnout.training.calls.tariff import Tariff, find_tariff
from turnout.training.errors import CacheInUse, CallsMisused, DataRefused, EndpointRefused

TARIFF = find_tariff("any", PRICES)
QUICK = Retries(first_delay_s=0.01, max_delay_s=0.05)
LIMITED = Fault(429, {"Retry-After": "0.4"})
BROKEN = Fault(500)
MALFORMED = Fault(content="I would rather not say")


def call(number: int, max_tokens: int = 50) -> Call:
    body = {
        "model": "m",
        "messages": [{"role": "user", "content": f"call {number}"}],
        "max_completion_tokens": max_tokens,
    }
    return Call(key_of(body=body), body, TARIFF)


def keep_json(reply: Reply) -> bytes | None:
    return reply.content.encode() if reply.content.startswith("{") else None


def echo(body: dict[str, Any]) -> str:
    return json.dumps({"said": body["messages"][0]["content"]})


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_ENV, API_KEY)


@pytest.fixture
def endpoint() -> Iterator[FakeEndpoint]:
    with fake_endpoint(answer=echo) as running:
        yield running


def ask(
    endpoint: FakeEndpoint,
    cache_file: Path,
    rows: Sequence[Sequence[Call]],
    caps: Caps = NO_CAP,
    *,
    concurrency: int = 4,
    retries: Retries = QUICK,
    timeout_s: float = 60.0,
) -> list[list[Outcome]]:
    cache = CallCache(cache_file)

    async def ask_all() -> list[list[Outcome]]:
        async with open_client(Address(endpoint.url, KEY_ENV, timeout_s)) as client:
            budget = Budget(caps, *cache.spent({one.key for row in rows for one in row}))
            return await Caller(client, cache, budget, keep_json, retries).ask_rows(rows, concurrency, lambda _: None)

    try:
        return asyncio.run(ask_all())
    finally:
        cache.close()


def pairs(n: int) -> list[list[Call]]:
    return [[call(2 * row), call(2 * row + 1)] for row in range(n)]


def test_outcomes_stand_in_the_order_of_the_rows(endpoint, tmp_path):
    endpoint.latency_s = 0.05
    found = ask(endpoint, tmp_path / "c", pairs(9))
    assert found == [[b'{"said": "call %d"}' % (2 * row + second) for second in (0, 1)] for row in range(9)]
    assert endpoint.most_at_once > 1


def test_a_second_run_asks_nothing_again(endpoint, tmp_path):
    first = ask(endpoint, tmp_path / "c", pairs(5))
    assert ask(endpoint, tmp_path / "c", pairs(5)) == first
    assert (endpoint.n_billed, len(endpoint.bodies)) == (10, 10)


def test_rows_with_the_same_calls_are_paid_once(endpoint, tmp_path):
    found = ask(endpoint, tmp_path / "c", pairs(1) * 20, concurrency=8)
    assert found == [found[0]] * 20
    assert endpoint.n_billed == 2


def test_after_retry_after_no_call_of_any_row_comes_too_early(endpoint, tmp_path):
    endpoint.faults = lambda number, _: LIMITED if number == 0 else None
    found = ask(endpoint, tmp_path / "c", pairs(4), concurrency=1)
    assert all(isinstance(outcome, bytes) for row in found for outcome in row)
    assert endpoint.arrivals[1] - endpoint.arrivals[0] >= 0.4
    assert endpoint.billed_twice == 0


def test_retry_after_beyond_the_limit_is_not_waited_for(endpoint, tmp_path):
    endpoint.faults = lambda *_: Fault(429, {"Retry-After": "86400"})
    started = time.monotonic()
    assert ask(endpoint, tmp_path / "c", [[call(0)]]) == [[CallFailure.UNAVAILABLE]]
    assert time.monotonic() - started < 60


def test_server_errors_are_tried_again_and_cost_nothing(endpoint, tmp_path):
    endpoint.faults = lambda number, _: BROKEN if number % 3 else None
    found = ask(endpoint, tmp_path / "c", pairs(6), concurrency=2, retries=Retries(12, 0.001, 0.01))
    assert all(isinstance(outcome, bytes) for row in found for outcome in row)
    assert endpoint.n_billed == 12


def test_back_off_doubles_up_to_its_limit():
    retries = Retries(first_delay_s=1.0, max_delay_s=8.0)
    for attempt, most in enumerate([1, 2, 4, 8, 8, 8]):
        delays = [retries.delay_s(attempt) for _ in range(50)]
        assert most / 2 <= min(delays) <= max(delays) <= most


@pytest.mark.slow
def test_time_out_counts_as_paid_and_is_retried_under_the_same_idempotency_key(endpoint, tmp_path):
    endpoint.is_idempotent = True
    endpoint.faults = lambda number, _: Fault(hang_s=2.4, billed=True) if number == 0 else None
    (row,) = ask(endpoint, tmp_path / "c", [[call(0)]], timeout_s=1.2, retries=Retries(first_delay_s=3.2))
    assert row == [b'{"said": "call 0"}']
    assert endpoint.n_billed == 1  # the endpoint knows the key
    cache = CallCache(tmp_path / "c")
    assert [sent.state for sent in cache.sends(call(0).key)] == [State.IN_DOUBT, State.ANSWERED]
    assert cache.sends(call(0).key)[0].usd == call(0).bound_usd
    cache.close()


def test_malformed_answers_are_asked_three_times_and_never_again(endpoint, tmp_path):
    endpoint.faults = lambda *_: MALFORMED
    assert ask(endpoint, tmp_path / "c", [[call(0)]]) == [[CallFailure.MALFORMED]]
    assert endpoint.n_billed == 3
    assert ask(endpoint, tmp_path / "c", [[call(0)]]) == [[CallFailure.MALFORMED]]
    assert endpoint.n_billed == 3


def test_malformed_answer_is_asked_anew_by_an_endpoint_that_remembers_keys(endpoint, tmp_path):
    endpoint.is_idempotent = True
    endpoint.faults = lambda number, _: MALFORMED if number == 0 else None
    assert ask(endpoint, tmp_path / "c", [[call(0)]]) == [[b'{"said": "call 0"}']]


@pytest.mark.parametrize(
    "body", [b"<html>gateway</html>", b"{}", b"[1]", b'{"choices": []}', b'{"choices": [{"message": null}]}', b"{"]
)
def test_success_status_around_nonsense_is_paid_for_and_malformed(endpoint, tmp_path, body, monkeypatch):
    monkeypatch.setattr(endpoint, "_completion", lambda *_: body)
    assert ask(endpoint, tmp_path / "c", [[call(0)]]) == [[CallFailure.MALFORMED]]
    cache = CallCache(tmp_path / "c")
    assert cache.spent([call(0).key]) == (pytest.approx(3 * call(0).bound_usd), 3)
    cache.close()


@pytest.mark.parametrize("counted", [b"-5", b"1" + 30 * b"0", b"1.5", b'"many"', b"null"])
def test_an_answer_whose_tokens_are_counted_as_nonsense_costs_its_bound(endpoint, tmp_path, counted, monkeypatch):
    usage = b'{"prompt_tokens": %b, "completion_tokens": %b}' % (counted, counted)
    body = b'{"choices": [{"message": {"content": "{}"}}], "usage": %b}' % usage
    monkeypatch.setattr(endpoint, "_completion", lambda *_: body)
    assert ask(endpoint, tmp_path / "c", [[call(0)]]) == [[b"{}"]]
    cache = CallCache(tmp_path / "c")
    assert cache.spent([call(0).key]) == (pytest.approx(call(0).bound_usd), 1)
    cache.close()


@pytest.mark.parametrize("concurrency", [1, 8, 32])
@pytest.mark.parametrize("max_calls", [0, 1, 7, 8])
def test_cap_on_calls_holds_exactly_and_leaves_no_half_row(endpoint, tmp_path, concurrency, max_calls):
    found = ask(endpoint, tmp_path / "c", pairs(20), Caps(1e9, max_calls), concurrency=concurrency)
    assert endpoint.n_billed == max_calls - max_calls % 2
    answered = [row for row in found if all(isinstance(outcome, bytes) for outcome in row)]
    assert len(answered) == max_calls // 2
    assert all(row == [CallFailure.CAPPED] * 2 for row in found if row not in answered)


@pytest.mark.slow
@pytest.mark.parametrize("counts_usage", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_caps_hold_against_the_bill_whatever_fails(endpoint, tmp_path, seed, counts_usage):
    """Time-outs, errors and malformed answers together, over three runs on one cache."""
    endpoint.counts_usage = counts_usage
    kinds = [Fault(500), Fault(429, {"Retry-After": "0.01"}), Fault(hang_s=0.5, billed=True), MALFORMED]
    endpoint.faults = lambda number, _: kinds[(number * 7 + seed) % 9] if (number * 7 + seed) % 9 < 4 else None
    caps = Caps(max_usd=20.5 * call(0).bound_usd, max_calls=30)
    for _ in range(3):
        ask(endpoint, tmp_path / "c", pairs(15), caps, concurrency=8, timeout_s=0.25)
        assert endpoint.n_billed <= 30
        assert endpoint.usd(PRICE_INPUT, PRICE_OUTPUT) <= caps.max_usd
    assert endpoint.n_billed >= 10


def test_cap_in_usd_counts_what_an_earlier_run_paid(endpoint, tmp_path):
    ask(endpoint, tmp_path / "c", pairs(4))
    spent = endpoint.usd(PRICE_INPUT, PRICE_OUTPUT)
    found = ask(endpoint, tmp_path / "c", pairs(8), Caps(spent + call(0).bound_usd))
    assert endpoint.n_billed == 8
    assert sum(CallFailure.CAPPED in row for row in found) == 4


@given(
    rows=st.lists(st.tuples(st.integers(1, 3), st.integers(0, 100), st.booleans()), max_size=30),
    max_usd=st.integers(0, 800),
    max_calls=st.none() | st.integers(0, 40),
    concurrency=st.integers(1, 8),
)
def test_budget_never_exceeds_its_caps_and_ends(rows, max_usd, max_calls, concurrency):
    """Rows hold up to three calls of bound 10, each costing at most that; some want one call more."""
    budget = Budget(Caps(max_usd, max_calls))
    waiting = iter(rows)

    async def work() -> None:
        for calls, cost, extends in waiting:
            try:
                async with budget.reserve([10.0] * calls) as room:
                    for _ in range(calls):
                        await asyncio.sleep(0)
                        room.spend(10.0, cost / 10)
                    if extends:
                        room.extend(10.0)
                        await asyncio.sleep(0)
                        room.spend(10.0, 10.0)
            except CapReached:
                continue

    async def work_all() -> None:
        async with asyncio.timeout(60):
            await asyncio.gather(*(work() for _ in range(concurrency)))

    asyncio.run(work_all())
    assert budget.spent_usd <= max_usd + ROUNDING_USD
    assert max_calls is None or budget.n_calls <= max_calls


@pytest.mark.parametrize("status", [401, 403, 404, 307])
def test_hopeless_status_stops_at_once_and_its_text_stays_out_of_the_error(endpoint, tmp_path, status):
    endpoint.faults = lambda *_: Fault(status, {"Location": "/elsewhere"})
    with pytest.raises(EndpointRefused) as refused:
        ask(endpoint, tmp_path / "c", pairs(10), concurrency=1)
    assert f"status {status}" in str(refused.value)
    assert "PRIVATE" not in str(refused.value)
    assert "sk-" not in str(refused.value)
    assert len(endpoint.bodies) == 1


def test_spent_quota_is_not_retried(endpoint, tmp_path):
    body = b'{"error": {"message": "PRIVATE", "code": "insufficient_quota"}}'
    endpoint.faults = lambda *_: Fault(429, body=body)
    with pytest.raises(EndpointRefused, match=r"insufficient_quota"):
        ask(endpoint, tmp_path / "c", [[call(0)]])
    assert len(endpoint.bodies) == 1


def test_one_refused_request_fails_alone_and_is_asked_again_by_the_next_run(endpoint, tmp_path):
    endpoint.faults = lambda _, body: Fault(400) if body["messages"][0]["content"] == "call 2" else None
    found = ask(endpoint, tmp_path / "c", pairs(4))
    assert found[1][0] is CallFailure.REFUSED
    assert sum(isinstance(outcome, CallFailure) for row in found for outcome in row) == 1
    endpoint.faults = lambda *_: None
    assert ask(endpoint, tmp_path / "c", pairs(4))[1][0] == b'{"said": "call 2"}'
    assert endpoint.n_billed == 8


def test_an_endpoint_that_fails_every_call_ends_the_run(endpoint, tmp_path):
    endpoint.faults = lambda *_: Fault(400)
    with pytest.raises(EndpointRefused, match=r"20 calls in a row failed.*status 400 oops"):
        ask(endpoint, tmp_path / "c", pairs(50))


def test_an_absent_endpoint_ends_the_run_without_a_bill(tmp_path):
    with fake_endpoint() as gone:
        pass
    with pytest.raises(EndpointRefused, match="calls in a row failed"):
        ask(gone, tmp_path / "c", pairs(20), retries=Retries(2, 0.001, 0.002))
    cache = CallCache(tmp_path / "c")
    assert cache.spent({one.key for row in pairs(20) for one in row}) == (0, 0)
    cache.close()


def test_key_goes_to_the_endpoint_and_into_no_file(endpoint, tmp_path):
    ask(endpoint, tmp_path / "c", pairs(2))
    assert endpoint.keys == {f"Bearer {API_KEY}"}
    assert all(API_KEY.encode() not in file.read_bytes() for file in tmp_path.iterdir())
    assert all(b"call 1" not in file.read_bytes().replace(b'"said": "call', b"") for file in tmp_path.iterdir())


def test_absent_key_is_refused_by_the_name_of_its_variable(endpoint, tmp_path, monkeypatch):
    monkeypatch.delenv(KEY_ENV)
    with pytest.raises(CallsMisused, match=KEY_ENV):
        ask(endpoint, tmp_path / "c", pairs(1))


@pytest.mark.parametrize(
    "url", ["", "api.example.org/v1", "ftp://h/v1", "http://user:pw@h/v1", "http://h/v1?key=1", "http://h:x/"]
)
def test_urls_that_are_none_or_hold_secrets_are_refused_unquoted(url):
    with pytest.raises(CallsMisused) as refused:
        Address(url).check()
    assert not url or url not in str(refused.value)


def test_two_runs_can_not_share_a_cache(tmp_path):
    held = CallCache(tmp_path / "c")
    with pytest.raises(CacheInUse, match="in use by another run"):
        CallCache(tmp_path / "c")
    held.close()
    CallCache(tmp_path / "c").close()


def test_other_files_are_refused_as_a_cache_and_left_as_they_are(tmp_path):
    text = tmp_path / "notes.txt"
    text.write_text("not a database, but somebody's notes " * 40)
    before = text.read_bytes()
    with pytest.raises(DataRefused, match="not a cache"):
        CallCache(text)
    assert text.read_bytes() == before
    newer = tmp_path / "newer"
    with sqlite3.connect(newer) as database:
        database.execute("pragma user_version=99")
    database.close()
    with pytest.raises(DataRefused, match="version 99"):
        CallCache(newer)


def test_cache_is_readable_by_its_owner_only(tmp_path):
    CallCache(tmp_path / "c").close()
    assert (tmp_path / "c").stat().st_mode & 0o077 == 0


def test_retry_after_is_read_as_milliseconds_seconds_and_date():
    later = email.utils.format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    assert retry_after_s({"retry-after-ms": "250", "retry-after": "9"}) == 0.25
    assert retry_after_s({"retry-after": "9"}) == 9
    assert retry_after_s({"retry-after": later}) == pytest.approx(90, abs=5)
    for useless in ({}, {"retry-after": "soon"}, {"retry-after": "nan"}, {"retry-after": "-3"}):
        assert retry_after_s(useless) is None


@given(text=st.text(max_size=300), tokens=st.integers(1, 500))
def test_bound_covers_a_token_for_each_byte_and_the_longest_answer(text, tokens):
    text = text.encode("utf-8", "ignore").decode()
    body = {"messages": [{"role": "user", "content": text}], "max_tokens": tokens}
    worst = Tariff(TARIFF.price).price.cost_usd(len(text.encode()), tokens)
    assert TARIFF.expected_usd(body, tokens) <= TARIFF.bound_usd(body)
    assert worst <= TARIFF.bound_usd(body)


def test_prices_come_from_the_list_from_the_caller_or_not_at_all():
    assert find_tariff("vendor/gpt-4o-2024-08-06").price.input == 2.5
    assert find_tariff("gpt-4o", is_batch=True).price.output == 5.0
    assert find_tariff("gpt-4o", PRICES, is_batch=True).price.output == PRICE_OUTPUT
    with pytest.raises(PriceUnknown, match="--price-input"):
        find_tariff("a-model-of-our-own")
