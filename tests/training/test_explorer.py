"""The threshold explorer in a real browser: what it shows is what Python computed, and nothing is loaded."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.training.looks import both_looks, checked_manifest, judged
from tests.training.manifests import NOT_MET, PAST, PROMISE, make_manifest
from tests.training.outcomes import full_outcomes, served
from tests.training.runs import blank_figures
from tests.watched_page import WatchedPage, watched_page
from turnout.serving.bundles.manifest import Manifest, Pair
from turnout.serving.decision.prices import cost_usd
from turnout.training.evaluation.evaluate import evaluate
from turnout.training.evaluation.evaluation import CurvePoint, Evaluation, LearningCurve
from turnout.training.report import render_report, words
from turnout.training.report.explorer import Explorer, Position, Traffic, explorer, monthly_usd

A4_WIDTH_PX = 688
"""210 mm less the margins of 14 mm on either side, at 96 dots an inch."""

TEXTS = {"share": "at-share", "kept": "at-kept", "kept_range": "at-kept-range", "threshold": "at-threshold"}
TEXTS |= {"worse": "at-worse", "worse_bound": "at-worse-bound"}
MANIFEST: Manifest = make_manifest(policies=[PROMISE, NOT_MET, PAST])
POINTS = [
    CurvePoint(n, {"auroc": n / 4000, "apgr": 0.6, "share_at_quality.0.99": None}, {"auroc": None}, 0.0, 0.0)
    for n in (500, 1000)
]


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    outcomes = full_outcomes(600)
    found = served(outcomes, PROMISE.threshold)
    curve = LearningCurve(POINTS, 500)
    return evaluate(outcomes, n_seen=0, n_bootstraps=60, served=found, learning_curve=curve)


@pytest.fixture(scope="module")
def expected(evaluation: Evaluation) -> Explorer:
    return explorer(MANIFEST, evaluation.thresholds)


@pytest.fixture(scope="module")
def report(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return render_report(MANIFEST, evaluation, tmp_path_factory.mktemp("report"))


class Watched(WatchedPage):
    """A report."""

    def move_to(self, position: Position) -> None:
        self.page.locator("#threshold").fill(str(position.at))


@pytest.fixture
def opened(browser, report: Path) -> Iterator[Watched]:
    watched = open_page(browser, report)
    yield watched
    watched.page.context.close()


def open_page(browser, report: Path, **settings: object) -> Watched:
    return watched_page(Watched, browser, report.as_uri(), **settings)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page_opens_without_a_complaint_and_loads_nothing(browser, report: Path, expected: Explorer, scheme: str):
    watched = open_page(browser, report, color_scheme=scheme)
    watched.move_to(expected.positions[3])
    assert watched.complaints == []
    assert watched.requests == [report.as_uri()]
    watched.page.context.close()


def test_page_is_readable_in_light_and_dark(browser, report: Path):
    seen = []
    for scheme in ("light", "dark"):
        watched = open_page(browser, report, color_scheme=scheme)
        colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        seen.append(watched.page.evaluate(colours))
        watched.page.context.close()
    light, dark = seen
    paper, ink = (luminance(colour) for colour in light)
    assert paper - ink > 150
    paper, ink = (luminance(colour) for colour in dark)
    assert ink - paper > 150


def luminance(colour: str) -> float:
    red, green, blue = (int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_slider_shows_what_python_computed(opened: Watched, expected: Explorer):
    last = len(expected.positions) - 1
    shown = set()
    for place in (0, 1, expected.start, last // 2, last - 1, last):
        at = expected.positions[place]
        opened.move_to(at)
        for name, element in TEXTS.items():
            assert opened.text(element) == getattr(at, name)
        assert opened.text("at-cost") == words.monthly(expected.cost(place))
        assert opened.text("at-saved") == words.monthly(expected.cost_all_strong - expected.cost(place))
        assert float(opened.page.locator("#mark").get_attribute("cx")) == at.x
        assert opened.page.locator("#threshold").get_attribute("aria-valuetext") == f"{at.share} to gpt-4o-mini"
        shown.add(opened.text("at-share"))
    assert len(shown) == 6


def test_positions_are_the_rows_of_the_table(evaluation: Evaluation, expected: Explorer):
    table = evaluation.thresholds
    assert len(expected.positions) == len(table.threshold)
    for row, at in enumerate(expected.positions):
        assert at.share == words.percent(table.share_weak[row])
        assert at.kept == words.percent(table.quality[row], 2)
        assert at.worse_bound == words.percent(table.share_worse_bound[row], 2)
    assert table.threshold[expected.start] == PROMISE.threshold


@pytest.mark.parametrize(("requests", "prompt", "output"), [(20_000, 5_000, 1_000), (7_500_000, 50, 4), (3, 500, 200)])
def test_typed_traffic_costs_what_python_says(opened: Watched, expected: Explorer, requests, prompt, output):
    for name, value in (("requests", requests), ("prompt-tokens", prompt), ("output-tokens", output)):
        opened.page.locator(f"#{name}").fill(str(value))
    place = len(expected.positions) // 2
    opened.move_to(expected.positions[place])
    traffic = Traffic(requests, prompt, output)
    cost = traffic.router_usd + monthly_usd(
        traffic,
        expected.weak_price,
        expected.strong_price,
        expected.positions[place].share_weak,
    )
    assert opened.text("at-cost") == words.monthly(cost)


def test_router_counts_in_the_cost_and_not_in_that_of_going_without(opened: Watched, expected: Explorer):
    opened.page.locator("#router-usd").fill("250")
    without = expected.cost(expected.start) - expected.traffic.router_usd
    assert opened.text("at-cost") == words.monthly(without + 250)
    assert opened.text("at-saved") == words.monthly(expected.cost_all_strong - without - 250)
    assert opened.text("at-all-strong") == words.monthly(expected.cost_all_strong)


def test_typed_prices_count_and_a_wrong_one_shows_no_amount(opened: Watched, expected: Explorer):
    opened.page.locator("#strong-input").fill("5")
    opened.page.locator("#strong-output").fill("15")
    opened.move_to(expected.positions[0])
    assert opened.text("at-cost") == "$5,500"
    opened.page.locator("#weak-input").fill("-1")
    assert opened.text("at-cost") == "\u2013"
    assert opened.text("at-share") == expected.positions[0].share


def test_keyboard_moves_the_slider_and_the_change_is_spoken(opened: Watched, expected: Explorer):
    opened.page.locator("#threshold").focus()
    opened.page.keyboard.press("ArrowRight")
    at = expected.positions[expected.start + 1]
    assert opened.text("at-share") == at.share
    opened.page.locator("#at-spoken:not(:empty)").wait_for(state="attached")
    spoken = opened.text("at-spoken")
    assert at.kept in spoken
    assert words.monthly(expected.cost(expected.start + 1)) in spoken
    opened.page.keyboard.press("End")
    assert opened.text("at-share") == "100\u00a0%"


def test_buttons_are_the_policies_with_a_promise_that_is_kept(opened: Watched, expected: Explorer):
    buttons = opened.page.locator(".jumps button")
    assert buttons.all_text_contents() == [PROMISE.name]
    opened.move_to(expected.positions[0])
    assert buttons.first.get_attribute("aria-pressed") == "false"
    buttons.first.click()
    assert buttons.first.get_attribute("aria-pressed") == "true"
    assert opened.text("at-threshold") == expected.positions[expected.start].threshold


def test_every_control_has_a_name(opened: Watched):
    nameless = opened.page.evaluate("[...document.querySelectorAll('input')].filter(i => !i.labels.length).length")
    assert nameless == 0
    assert opened.page.locator("svg[role=img]:not([aria-label])").count() == 0


def test_nothing_moves_when_the_slider_does(opened: Watched, expected: Explorer):
    boxes = set()
    for place in range(0, len(expected.positions), 9):
        opened.move_to(expected.positions[place])
        box = opened.page.locator("#explorer").bounding_box()
        boxes.add((box["width"], box["height"]))
    assert len(boxes) == 1


@pytest.mark.slow
def test_no_other_script_may_run(opened: Watched):
    opened.page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))"
    )
    assert opened.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in complaint for complaint in opened.complaints)


def test_without_scripts_the_default_policy_is_shown(browser, report: Path, expected: Explorer):
    watched = open_page(browser, report, java_script_enabled=False)
    assert watched.text("at-kept") == expected.positions[expected.start].kept
    assert watched.text("at-cost") == words.monthly(expected.cost(expected.start))
    watched.page.context.close()


@pytest.mark.parametrize(("media", "width"), [("print", A4_WIDTH_PX), ("screen", 1280), ("screen", 390)])
def test_nothing_is_cut_off(browser, report: Path, media: str, width: int):
    watched = open_page(browser, report, viewport={"width": width, "height": 1000})
    watched.page.emulate_media(media=media)
    if media == "print":
        watched.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert watched.page.locator("details:not([open])").count() == 0
    watched.page.evaluate("document.querySelector('.plot text').textContent = '102.5 %'")  # the widest there can be
    left = "part => part.getBoundingClientRect().left"
    outermost = watched.page.evaluate(f"Math.min(...[...document.querySelectorAll('.plot text')].map({left}))")
    assert outermost >= watched.page.evaluate(f"({left})(document.querySelector('#explorer .card'))")
    assert watched.page.evaluate("getComputedStyle(document.querySelector('.plot')).overflow") == "visible"
    widest = watched.page.evaluate("document.documentElement.scrollWidth")
    assert widest <= width
    if media == "print":  # on a screen, wide tables scroll; paper does not
        parts = "[...document.querySelectorAll('td, th, text, figure')]"
        right = watched.page.evaluate(f"Math.max(...{parts}.map(part => part.getBoundingClientRect().right))")
        assert right <= width + 1
    watched.page.context.close()


def test_default_costs_are_those_of_the_price_list(expected: Explorer):
    traffic = expected.traffic
    for model, share in (("gpt-4o", 0.0), ("gpt-4o-mini", 1.0)):
        one = cost_usd(model, traffic.prompt_tokens, traffic.output_tokens)
        assert monthly_usd(traffic, expected.weak_price, expected.strong_price, share) == pytest.approx(
            one * traffic.requests
        )


@given(
    share=st.floats(0, 1), requests=st.integers(0, 10**9), prompt=st.integers(0, 10**5), output=st.integers(0, 10**4)
)
def test_monthly_cost_lies_between_those_of_the_models(
    expected: Explorer, share: float, requests: int, prompt: int, output: int
):
    traffic = Traffic(requests, prompt, output)
    costs = [monthly_usd(traffic, expected.weak_price, expected.strong_price, at) for at in (1.0, share, 0.0)]
    assert costs[0] <= costs[1] * (1 + 1e-9)
    assert costs[1] <= costs[2] * (1 + 1e-9)


def test_models_without_a_price_leave_the_price_to_the_reader(evaluation: Evaluation, tmp_path: Path):
    manifest = msgspec.structs.replace(MANIFEST, pair=Pair(strong="</script><b>big", weak="small"))
    with blank_figures():
        text = render_report(manifest, evaluation, tmp_path).read_text()
    assert "price list lacks one of the models" in text
    assert "</script><b>" not in text
    assert text.count("</script>") == 2


@pytest.fixture(scope="module")
def two_looks(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Explorer]:
    """Return the report of a bundle with a second look, and what its explorer is to show."""
    outcomes = full_outcomes(600)
    looks = both_looks(outcomes)
    manifest = checked_manifest(looks)
    whole = msgspec.structs.replace(evaluation, two_looks=judged(outcomes, looks, manifest, n_bootstraps=20))
    page = render_report(manifest, whole, tmp_path_factory.mktemp("two"))
    return page, explorer(manifest, whole.thresholds, whole.two_looks)


@pytest.mark.slow
def test_two_looks_show_what_python_computed_and_one_look_comes_back(browser, two_looks: tuple[Path, Explorer]):
    page, shown = two_looks
    watched = open_page(browser, page)
    watched.page.locator("#looks-two").check()
    last = len(shown.second.positions) - 1
    for place in (shown.second.start, 0, last // 2, last):
        at = shown.second.positions[place]
        watched.move_to(at)
        assert watched.text("at-rule") == at.rule
        assert watched.text("at-waits") == at.more
        assert watched.text("at-kept") == at.kept
        assert watched.text("at-cost") == words.monthly(shown.cost_at(at))
        assert float(watched.page.locator("#mark").get_attribute("cx")) == at.x
    assert not watched.page.locator("#jumps-one").is_visible()
    watched.page.locator("#looks-one").check()
    assert watched.text("at-threshold") == shown.positions[shown.start].threshold
    assert not watched.page.locator("#rule-two").is_visible()
    assert watched.complaints == []
    watched.page.context.close()


@pytest.mark.slow
@pytest.mark.parametrize("width", [390, 1440])
def test_thumb_of_the_slider_lies_under_the_mark(browser, two_looks: tuple[Path, Explorer], width: int):
    page, shown = two_looks
    watched = open_page(browser, page, viewport={"width": width, "height": 900})
    for place in (0, len(shown.positions) // 2, len(shown.positions) - 1):
        watched.move_to(shown.positions[place])
        box = watched.page.locator("#threshold").bounding_box()
        thumb = 1.2 * 16
        value = float(watched.page.locator("#threshold").input_value()) / 10_000
        mark = watched.page.locator("#mark").bounding_box()
        expected = box["x"] + thumb / 2 + (box["width"] - thumb) * value
        assert mark["x"] + mark["width"] / 2 == pytest.approx(expected, abs=2.0)
    assert watched.page.evaluate("document.documentElement.scrollWidth") <= width
    watched.page.context.close()
