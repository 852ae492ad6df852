import re
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import msgspec
import numpy as np
import pytest

from tests.training.manifests import NOT_MET, PAST, PROMISE, make_manifest
from tests.training.outcomes import full_outcomes, make_outcomes, served
from tests.training.runs import blank_figures
from turnout.serving.bundles.manifest import Manifest, Pair
from turnout.serving.bundles.policy import Policy
from turnout.serving.bundles.verdict import GateVerdict
from turnout.serving.cli.tables import policies_table
from turnout.training.evaluation.evaluate import evaluate
from turnout.training.evaluation.evaluation import Evaluation, Slice, Slices
from turnout.training.report import render_report, words
from turnout.training.report.card import render_card
from turnout.training.report.slices import slice_tables, weaknesses

PNG_HEAD = b"\x89PNG\r\n\x1a\n"
VOID = {"meta", "path", "use", "br"}


@pytest.fixture(scope="module")
def evaluation():
    return evaluate(make_outcomes(300), n_seen=4, n_bootstraps=30, extra_baselines={"MiniLM + LR": np.full(300, 0.8)})


@pytest.fixture(scope="module")
def rendered(evaluation, tmp_path_factory) -> Path:
    return render_report(make_manifest(), evaluation, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(rendered) -> str:
    return rendered.read_text()


@pytest.fixture
def only_words() -> Iterator[None]:
    with blank_figures():
        yield


class Balance(HTMLParser):
    """Elements that are open, and ids and references met."""

    def __init__(self) -> None:
        super().__init__()
        self.open, self.ids, self.references = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value)
            elif name == "href":
                self.references.append(value)
            elif name in {"src", "srcset", "action", "data", "poster"}:
                self.references.append(f"loads {value}")
            self.references += re.findall(r"url\((.*?)\)", value or "")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def test_page_is_whole_and_loads_nothing(page):
    assert "http:" not in page
    assert "https:" not in page
    assert "<script" not in page
    assert "@import" not in page
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    assert {reference.removeprefix("#") for reference in parser.references} <= set(parser.ids)


def test_headline_is_what_is_promised_and_hindsight_comes_behind(page, evaluation):
    text = re.sub(r"<[^>]+>", "", page)
    manifest = make_manifest()
    policy = manifest.policy(manifest.default_policy)
    promised = f"{words.percent(policy.share_weak)} of this traffic can go to gpt-4o-mini, with at most "
    hindsight = f"In hindsight, with the best threshold, {words.percent(evaluation.share_at_quality['0.99'])} keep 99"
    assert policy.is_met
    assert text.index(f"{promised}{words.target(policy.target)} of the answers made worse") < text.index(hindsight)
    assert words.between(evaluation.intervals["share_at_quality.0.99"], as_percent=True) in text
    assert "(4 more were left out because it had)" in text


def test_policies_stand_in_words_with_their_bounds(page):
    assert "At most 1\u00a0% of all requests get a worse answer than gpt-4o would have given." in page
    assert "At most 0.96\u00a0%, with 90\u00a0% confidence." in page
    assert "nothing goes weak" in page
    assert "No promise: set from past traffic." in page
    assert page.count('<tr class="default">') == 1


def test_provenance_names_bundle_data_rows_and_seed(page):
    for expected in ("gateway/3", "cd" * 32, "fit 12,458", "<dt>Seed</dt><dd>7</dd>", "numpy 2"):
        assert expected in page


@pytest.mark.usefixtures("only_words")
def test_banner_only_on_synthetic_data(page, evaluation, tmp_path):
    assert "synthetic" not in page
    path = render_report(make_manifest(synthetic=True), evaluation, tmp_path)
    assert "Trained on synthetic data." in path.read_text()


def test_baselines_stand_beside_the_router(page):
    for name in ("random", "prompt length", "oracle (hindsight)", "MiniLM + LR"):
        assert f'<th scope="col" class="num">{name}</th>' in page


def test_names_from_outside_cannot_become_markup(tmp_path):
    outcomes = replace(make_outcomes(60), source=["<script>alert(1)</script>"] * 30 + ["b & c"] * 30)
    found = evaluate(outcomes, n_seen=0, n_bootstraps=0, extra_baselines={"<b>$x_1$": outcomes.p_match})
    manifest = make_manifest(pair=Pair(strong="<i>strong", weak="we$ak$"))
    text = render_report(manifest, found, tmp_path).read_text()
    assert "<script" not in text
    assert "<b>" not in text
    assert "<i>" not in text
    for expected in ("sent to we$ak$</text>", "&lt;b&gt;$x_1$</text>"):
        assert expected in text


def test_figures_are_png_and_svg_files_beside_the_page(evaluation, tmp_path):
    path = render_report(make_manifest(), evaluation, tmp_path / "new" / "report")
    assert path == tmp_path / "new" / "report" / "index.html"
    names = {item.name for item in path.parent.iterdir()}
    figures = ("reliability", "cost_quality", "p_match", "drift")
    assert names == {"index.html", *(f"{name}.{kind}" for name in figures for kind in ("png", "svg"))}
    for name in figures:
        assert (path.parent / f"{name}.png").read_bytes().startswith(PNG_HEAD)
        drawing = ET.fromstring((path.parent / f"{name}.svg").read_bytes())
        assert drawing.tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.slow
def test_same_input_gives_the_same_bytes(evaluation, rendered, tmp_path):
    second = render_report(make_manifest(), evaluation, tmp_path).parent
    for item in rendered.parent.iterdir():
        assert item.read_bytes() == (second / item.name).read_bytes()


def test_colours_of_the_figures_follow_the_page(page):
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 4
    for drawing in drawings:
        assert "var(--ink)" in drawing
        assert not re.findall(r"#[0-9a-f]{6}\b", drawing)


def test_report_of_undefined_figures_still_renders(tmp_path):
    outcomes = replace(make_outcomes(30), match=np.ones(30, dtype=np.int64), p_uncalibrated=None)
    nothing = replace(outcomes, strong_score=np.zeros(30), weak_score=np.zeros(30))
    text = render_report(make_manifest(), evaluate(nothing, n_seen=0, n_bootstraps=0), tmp_path).read_text()
    assert "scored nothing" in text
    assert "None" not in text
    assert not re.search(r"\bnan\b", re.sub(r"<[^>]+>", "", text))


@pytest.mark.parametrize(
    ("match_rate", "p_match", "auroc", "expected"),
    [
        (0.8, 0.81, 0.7, []),
        (0.7, 0.85, 0.7, ["promises too much"]),
        (0.95, 0.8, 0.7, ["too cautious"]),
        (0.8, 0.8, 0.45, ["ranks no better than chance"]),
        (0.99, 0.99, 0.4, []),
    ],
)
def test_weak_slices_are_marked(match_rate, p_match, auroc, expected):
    assert weaknesses(Slice("s", 400, match_rate, p_match, auroc, 0.02, 0.02)) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, "\u2013"), (0.0, "0 %"), (-0.0001, "0 %"), (1.0, "100 %"), (0.2449, "24.5 %"), (1.0052, "100.5 %")],
)
def test_shares_read_as_percent(value, expected):
    assert words.percent(value) == expected.replace(" ", "\u00a0")


def test_targets_keep_the_decimals_they_were_given():
    assert [words.target(value) for value in (0.01, 0.005, 0.125)] == ["1\u00a0%", "0.5\u00a0%", "12.5\u00a0%"]


QUALITY = msgspec.structs.replace(PAST, name="min_quality=0.98", kind="min_quality", target=0.98, delta=0.1)
BUDGET = msgspec.structs.replace(
    PAST, name="max_cost_usd_per_1k=1.2", kind="max_cost_usd_per_1k", target=1.2, cost_usd_per_1k=1.187
)


@pytest.mark.parametrize(
    ("policy", "rule", "bound"),
    [
        (
            QUALITY,
            "Keep at least 98 % of gpt-4o's mean quality.",
            "At least 98 % of the quality, with 90 % confidence.",
        ),
        (
            msgspec.structs.replace(QUALITY, is_met=False),
            "Keep at least 98 % of gpt-4o's mean quality.",
            "Could not be shown on this data, so nothing goes weak. More labelled rows may change that.",
        ),
        (
            BUDGET,
            "Spend at most $1.2 on 1,000 requests, at the best quality that buys.",
            "No promise: set from past traffic.",
        ),
        (
            msgspec.structs.replace(BUDGET, is_met=False),
            "Spend at most $1.2 on 1,000 requests, at the best quality that buys.",
            "Even gpt-4o-mini alone costs more, so nothing goes weak.",
        ),
        (
            msgspec.structs.replace(PAST, is_met=False, threshold=0.0),
            "Send at most 30 % of the requests to gpt-4o.",
            "More than that is unlike the training data and goes to gpt-4o; all else goes weak.",
        ),
    ],
)
def test_policies_of_quality_and_cost_say_what_they_ask_and_how_firmly(policy: Policy, rule: str, bound: str):
    assert words.policy_rule(policy, Pair()).replace("\u00a0", " ") == rule
    assert words.policy_bound(policy, Pair()).replace("\u00a0", " ") == bound


@pytest.mark.parametrize(
    ("value", "expected"),
    [(1.187, "$1.19"), (0.0432, "$0.0432"), (99.949, "$99.9"), (1234.5, "$1,234"), (0.0, "$0.00")],
)
def test_amounts_in_dollars_keep_three_digits(value: float, expected: str):
    assert words.usd(value) == expected
    assert words.usd(None) == words.NONE


@pytest.mark.usefixtures("only_words")
def test_costs_stand_in_page_card_and_table_where_they_are_known(evaluation, page, tmp_path):
    manifest = make_manifest(policies=[PROMISE, BUDGET])
    shown = render_report(manifest, evaluation, tmp_path).read_text()
    assert "Cost of 1,000" in shown
    assert "$1.19" in shown
    assert "Cost of 1,000" not in page
    assert "| 1.19 |" in render_card(manifest, evaluation)
    assert [column.header for column in policies_table(manifest).columns][-1] == "USD per 1,000"
    assert [column.header for column in policies_table(make_manifest()).columns][-1] == "bound"


def test_card_says_where_the_router_is_weak_and_what_the_operator_noted(evaluation):
    training = msgspec.structs.replace(make_manifest().training, note="For support questions. Licence: CC-BY-4.0.")
    slices = [
        Slice("chat", 900, 0.9, 0.9, 0.7, 0.01, 0.01, 0.5, 0.001, 0.02, {"auroc": (0.6, 0.8), "drop": (0.0, 0.002)}),
        Slice("maths", 200, 0.7, 0.8, 0.55, 0.1, 0.02, 0.5, 0.04, 0.3, {"auroc": (0.45, 0.65), "drop": (0.02, 0.06)}),
        Slice("rare", 20, 0.1, 0.8, 0.5, 0.1, 0.1, 0.5, 0.5, 0.9, {}),
    ]
    weak = msgspec.structs.replace(evaluation, slices=Slices(slices, [], [], 0))
    card = render_card(make_manifest(training=training), weak)
    rows = [line for line in card.splitlines() if line.startswith("| task ")]
    assert rows == [
        "| task maths | 200 | 70.0% | 0.550 | 50.0% | 4.00% | 2.00% to 6.00% |",
        "| task chat | 900 | 90.0% | 0.700 | 50.0% | 0.10% | 0.00% to 0.20% |",
    ]
    assert "reaches 0.5 on: task maths." in card
    assert "\nFor support questions. Licence: CC-BY-4.0.\n" in card


def test_manifest_of_an_older_turnout_has_policies_without_costs():
    written = msgspec.json.decode(msgspec.json.encode(make_manifest()))
    for policy in written["policies"]:
        del policy["cost_usd_per_1k"]
    read = msgspec.json.decode(msgspec.json.encode(written), type=Manifest)
    assert read.policies == [PROMISE, NOT_MET, PAST]


NEW_FIELDS = ("thresholds", "label_noise", "drift", "learning_curve")


def test_evaluation_of_an_older_turnout_still_renders_with_what_it_has(tmp_path):
    outcomes = full_outcomes(300)
    found = evaluate(outcomes, n_seen=0, n_bootstraps=20, served=served(outcomes))
    written = msgspec.json.decode(msgspec.json.encode(found))
    for name in NEW_FIELDS:
        del written[name]
    for name in ("language", "length", "turns"):
        del written["slices"][name]
    for one in (*written["slices"]["task"], *written["slices"]["source"], *written["slices"]["stage"]):
        for name in ("share_weak", "drop", "drop_if_weak", "intervals"):
            del one[name]
    old = msgspec.json.decode(msgspec.json.encode(written), type=Evaluation)
    text = render_report(make_manifest(), old, tmp_path).read_text()
    assert 'id="slices"' in text
    for section in ("explorer", "drift", "learning"):
        assert f'id="{section}"' not in text
    assert "<script" not in text
    assert "None" not in text
    assert {item.name for item in tmp_path.glob("*.png")} == {"reliability.png", "cost_quality.png", "p_match.png"}


@pytest.mark.usefixtures("only_words")
def test_only_a_recalibrated_bundle_has_cross_fitted_figures(evaluation, tmp_path):
    verdict = GateVerdict(
        champion="gateway/2",
        policy="max_worse=0.01",
        rows=1,
        groups=1,
        from_s=None,
        to_s=None,
        is_met=True,
        is_forced=False,
        checks=[],
    )
    kinds = {
        "new": {},
        "retrained": {"parent": "gateway/2", "verdict": verdict},
        "recalibrated": {"parent": "gateway/2"},
    }
    pages = {kind: render_report(make_manifest(**of), evaluation, tmp_path / kind) for kind, of in kinds.items()}
    said = {kind for kind, page in pages.items() if "cross-fitted" in page.read_text()}
    assert said == {"recalibrated"}


def test_slices_show_what_they_lose_and_mark_loss_beyond_chance():
    outcomes = full_outcomes(400)
    found = evaluate(outcomes, n_seen=0, n_bootstraps=100, served=served(outcomes, 0.5))
    tables = {table.title: table for table in slice_tables(found)}
    assert list(tables) == [
        "Task",
        "Language",
        "Length of the prompt",
        "Depth of the conversation",
        "Source",
        "Stage",
    ]
    for row in tables["Task"].rows:
        goes_weak = np.array([task == row.slice.name for task in outcomes.task]) & (outcomes.p_match >= 0.5)
        lost = (outcomes.strong_score - outcomes.weak_score)[goes_weak].sum()
        total = outcomes.strong_score[[task == row.slice.name for task in outcomes.task]].sum()
        assert row.change == pytest.approx(-lost / total)
        assert row.forest.low <= row.forest.point <= row.forest.high
        assert row.forest.is_loss == (row.slice.intervals["drop"][0] > 0)


def test_policy_lets_no_script_run_but_the_one_it_names(page):
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert "default-src &#39;none&#39;" in policy
    assert "sha256-" in policy
