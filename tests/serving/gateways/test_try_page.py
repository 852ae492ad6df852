"""The page to try a prompt on, in a real browser, before a real server with the bundle that ships."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.http_calls import HttpProcess, http_address_in
from tests.running import ANY_PORT, server_process
from tests.serving.gateways.test_http_access import GATEWAY, READER, token_table
from tests.watched_page import WatchedPage, watched_page
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.registry import find_bundle

EASY = "What is the capital of France?"
HARD = "How many positive integers below 1000 are divisible by neither 3 nor 7?"
STRANGE = "Pray, mix a zabaglione with Vin Santo for my nan's quinceañera, y'all."
HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"
POLICY = "max_worse=0.05"


@pytest.fixture(scope="module")
def champion() -> Bundle:
    return load_bundle(find_bundle())


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpProcess]:
    log = tmp_path_factory.mktemp("page") / "stderr.log"
    with server_process(find_bundle(), log, "--http", ANY_PORT) as running:
        yield HttpProcess(running.address, http_address_in(log), log)


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HttpProcess]:
    folder = tmp_path_factory.mktemp("locked")
    tokens = folder / "tokens.toml"
    tokens.write_text(token_table("gateway", GATEWAY, '["*"]') + token_table("reader", READER, '["DescribeModel"]'))
    with server_process(find_bundle(), folder / "log", "--http", ANY_PORT, "--tokens", tokens) as running:
        yield HttpProcess(running.address, http_address_in(folder / "log"), folder / "log")


def called(served: HttpProcess, path: str, body: Any = None) -> bytes:
    data = None if body is None else msgspec.json.encode(body)
    with urllib.request.urlopen(f"http://{served.http}{path}", data, timeout=60) as reply:
        return reply.read()


def told(served: HttpProcess, path: str, body: Any = None) -> Any:
    return msgspec.json.decode(called(served, path, body))


class Opened(WatchedPage):
    """The page to try a prompt on."""

    def text(self, element: str) -> str:
        """Return what of the element's text is shown."""
        return self.page.locator(f"#{element}").inner_text()

    def decide(self, prompt: str, policy: str = POLICY) -> None:
        self.page.locator("#policy").select_option(policy)
        self.page.locator("#prompt").fill(prompt)
        self.page.locator("#send").click()
        self.page.locator("#send:enabled").wait_for()


def opened(browser, served: HttpProcess, **settings: object) -> Opened:
    found = watched_page(Opened, browser, f"http://{served.http}/", **settings)
    found.page.locator("#inside:not([hidden]), #door:not([hidden])").wait_for()
    return found


@pytest.fixture
def page(browser, served: HttpProcess) -> Iterator[Opened]:
    found = opened(browser, served)
    yield found
    found.page.context.close()


def test_decision_shown_is_that_of_route(page: Opened, served: HttpProcess):
    for prompt in (EASY, HARD):
        page.decide(prompt)
        reply = told(served, "/v1/route", {"text": prompt, "policy": POLICY})
        shown = page.text("decision")
        assert f"{reply['model']} answers" in shown
        assert f"{reply['p_match']:.3f}" in shown
        assert f"{reply['threshold']:.3f}" in shown
        assert POLICY in shown
    assert page.complaints == []


def test_only_this_server_is_asked_and_nothing_is_kept(page: Opened, served: HttpProcess):
    page.decide(EASY)
    assert {url.split("/")[2] for url in page.requests} == {served.http}
    kept = page.page.evaluate("[localStorage.length, sessionStorage.length, document.cookie, location.search]")
    assert kept == [0, 0, "", ""]
    assert EASY not in served.log.read_text()


def test_server_says_where_the_page_is(served: HttpProcess):
    assert f"to try a prompt: http://{served.http}/\n" in served.log.read_text()


def test_words_unlike_the_training_are_named(page: Opened):
    page.decide(STRANGE)
    shown = page.text("decision")
    assert "unlike what the router learned from" in shown
    assert "zabaglione" in page.page.locator(".words").first.inner_text()


def test_parts_that_decided_are_shown_in_the_words_of_the_prompt(page: Opened):
    page.decide("Name the capital of France. Then prove that there are infinitely many primes.")
    parts = page.page.locator(".parts q").all_inner_texts()
    assert parts == ["Name the capital of France.", "Then prove that there are infinitely many primes."]


def test_answer_is_checked_with_its_signal_and_tries_are_never_left_unchecked(page: Opened, served: HttpProcess):
    def ended() -> set[str]:
        metrics = called(served, "/metrics").decode()
        return set(re.findall(r'turnout_tries_total\{result="(\w+)"\} [1-9]', metrics))

    page.decide(HARD, "max_worse=0.02")
    assert not page.page.locator("#checked").is_visible()
    page.page.locator("#second summary").click()
    page.page.locator("#answer").fill("There are 572 of them.")
    page.page.locator("#logprob").fill("-0.02")
    page.page.keyboard.press("Control+Enter")
    page.page.locator("#checked:not([hidden])").wait_for()
    assert "mean_logprob" in page.text("checked")
    asked = {"text": HARD, "policy": "max_worse=0.02", "can_check": True}
    reply = told(
        served,
        "/v1/check",
        {
            "request": asked,
            "answer": {"text": "There are 572 of them."},
            "signals": {"mean_logprob": -0.02},
        },
    )
    assert f"{reply['p_match']:.3f}" in page.text("checked")
    assert "unchecked" not in ended()


def test_text_is_never_markup(page: Opened):
    page.decide(HOSTILE)
    page.page.locator("#answer").evaluate("(box, text) => { box.value = text; }", HOSTILE)
    page.decide(HOSTILE)
    assert page.page.title() == "Turnout: try a prompt"
    assert page.page.locator("#inside img").count() == 0


def test_no_other_script_may_run(page: Opened):
    refused = page.page.evaluate(
        "() => { try { document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.ran = 1'})); return false; } catch (error) { return true; } }"
    )
    assert refused or any("Content Security Policy" in one for one in page.complaints)
    assert page.page.evaluate("window.ran") is None


def test_keyboard_alone_gets_to_a_decision(page: Opened):
    assert page.page.evaluate("document.activeElement.id") == "prompt"
    page.page.keyboard.type(EASY)
    page.page.keyboard.press("Control+Enter")
    page.page.locator("#decision:not([hidden])").wait_for()
    reached = []
    for _ in range(12):
        page.page.keyboard.press("Tab")
        reached.append(page.page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert [one for one in dict.fromkeys(reached) if one in ("BUTTON", "policy", "send")] == [
        "BUTTON",
        "policy",
        "send",
    ]
    assert page.text("spoken").strip()
    nameless = "[...document.querySelectorAll('input, select, textarea')].filter(i => !i.labels.length).length"
    assert page.page.evaluate(nameless) == 0


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_nothing_is_wider_than_the_screen_and_all_is_readable(browser, served: HttpProcess, width: int, scheme: str):
    found = opened(browser, served, viewport={"width": width, "height": 844}, color_scheme=scheme)
    found.decide(STRANGE + " " + "unbreakable" * 40)
    found.page.locator("#answer").evaluate("(box) => { box.value = 'x'; }")
    found.decide(HARD)
    assert found.page.evaluate("document.documentElement.scrollWidth") <= width
    weakest = found.page.evaluate(CONTRAST)
    assert weakest["ratio"] >= 4.5, weakest
    found.page.context.close()


CONTRAST = """() => {
  const parse = colour => colour.match(/[\\d.]+/g).map(Number);
  const linear = v => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const silent = ['NOSCRIPT', 'STYLE', 'SCRIPT', 'OPTION'];
  let weakest = { ratio: 99 };
  for (const one of document.querySelectorAll('main *')) {
    const own = [...one.childNodes].filter(n => n.nodeType === 3 && n.data.trim());
    if (!own.length || !one.checkVisibility() || silent.includes(one.tagName)) continue;
    let ground = one, paint;
    do {
      paint = parse(getComputedStyle(ground).backgroundColor);
      ground = ground.parentElement;
    } while (ground && paint[3] === 0);
    const [a, b] = [light(parse(getComputedStyle(one).color)), light(paint)];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < weakest.ratio) weakest = { ratio, text: own[0].data.trim().slice(0, 40) };
  }
  return weakest;
}"""
"""The least contrast of any text with what it stands on, by WCAG's formula."""


def test_facts_policies_and_counts_are_those_of_the_server(page: Opened, served: HttpProcess):
    model = told(served, "/v1/model")
    assert model["bundle"] in page.text("facts")
    promised = [policy for policy in model["policies"] if policy["kind"] == "max_worse"]
    rows = page.page.locator("#policies tr").all_inner_texts()
    assert len(rows) == len(promised)
    for row, policy in zip(rows, promised, strict=True):
        assert row.startswith(policy["name"])
        assert f"{100 * policy['share_weak']:.1f}" in row
    before = int(page.page.locator("#counts b").first.inner_text().replace(",", ""))
    page.decide(EASY)
    page.page.locator("#counts b", has_text=re.compile(f"^{before + 1:,}$")).first.wait_for()
    assert page.page.locator("#report a").get_attribute("href") == "/report/"


def test_where_tokens_are_required_nothing_is_shown_without_one(browser, locked: HttpProcess, champion: Bundle):
    found = opened(browser, locked)
    door = found.page.locator("#door")
    assert door.is_visible()
    shown = found.page.locator("body").inner_text()
    assert champion.manifest.pair.weak not in shown
    assert champion.manifest.bundle_id not in shown
    assert [url for url in found.requests if not url.endswith(("/", "/v1/model"))] == []
    found.page.locator("#token").fill("turnout_wrong")
    found.page.keyboard.press("Enter")
    found.page.locator("#trouble:not([hidden])").wait_for()
    assert "does not know this token" in found.text("trouble")
    assert door.is_visible()
    found.page.locator("#token").fill(GATEWAY)
    found.page.keyboard.press("Enter")
    found.page.locator("#inside:not([hidden])").wait_for()
    found.decide(EASY)
    assert "answers" in found.text("decision")
    assert GATEWAY not in found.page.locator("body").inner_text()
    found.page.reload()
    door.wait_for()
    assert champion.manifest.bundle_id not in found.page.locator("body").inner_text()
    found.page.context.close()


def test_token_that_may_not_decide_is_told_so(browser, locked: HttpProcess):
    found = opened(browser, locked)
    found.page.locator("#token").fill(READER)
    found.page.keyboard.press("Enter")
    found.page.locator("#inside:not([hidden])").wait_for()
    found.decide(EASY)
    assert "may not" in found.text("trouble")
    assert not found.page.locator("#decision").is_visible()
    found.page.context.close()


def test_too_large_a_prompt_is_refused_in_words(browser, tmp_path: Path):
    log = tmp_path / "log"
    with server_process(find_bundle(), log, "--http", ANY_PORT, "--max-request-bytes", 2000) as running:
        found = opened(browser, HttpProcess(running.address, http_address_in(log), log))
        found.decide("word " * 1000)
        assert "larger than a request may be" in found.text("trouble")
        found.decide(EASY)
        assert not found.page.locator("#trouble").is_visible()
        found.page.context.close()
