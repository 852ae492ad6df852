"""`replay-policy` and `savings` on a log of a ladder: a share a rung in the table and in JSON, pairs as before."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.contract.conftest import Turnout
from tests.training.ladder_log import AT, AT_BETWEEN, NAMES, ladder_log
from tests.training.spools import compacted, decision, outcome, sealed
from turnout.serving.bundles.bundle import read_manifest

POLICY = "max_worse=0.05"


@pytest.fixture(scope="module")
def spool(tmp_path_factory: pytest.TempPathFactory, ladder_bundle_folder: Path) -> tuple[Path, list[float]]:
    """Return a log of the tiny ladder, and the share of each rung under `POLICY`."""
    made, truth = ladder_log(400, 13)
    bundle_id = read_manifest(ladder_bundle_folder).bundle_id
    folder = tmp_path_factory.mktemp("ladder") / "spool"
    own = [type(one)(**{**_fields(one), "bundle": bundle_id}) if hasattr(one, "rungs") else one for one in made]
    sealed(folder, own)
    policy = read_manifest(ladder_bundle_folder).policy(POLICY)
    places = truth.places(policy.threshold, policy.t_rungs[0])
    assert (policy.threshold, policy.t_rungs[0]) != (AT, AT_BETWEEN)
    return folder, [float((places == rung).mean()) for rung in range(3)]


def _fields(one: object) -> dict[str, object]:
    return {name: getattr(one, name) for name in one.__struct_fields__}


def test_replay_gives_a_share_a_rung(turnout: Turnout, spool: tuple[Path, list[float]], ladder_bundle_folder: Path):
    log, shares = spool
    asked = ("replay-policy", log, "--bundle", ladder_bundle_folder, "--policy", POLICY, "--quiet")
    ended = turnout(*asked, "--json")
    assert (ended.code, ended.err) == (0, "")
    found = json.loads(ended.out)
    one = found["policies"][2]
    assert one["share_rungs"] == pytest.approx(dict(zip(NAMES, shares, strict=True)))
    assert found["scored_rungs"] == dict.fromkeys(NAMES, 1.0)
    assert "other_ladders" not in found
    shown = " ".join(turnout(*asked).out.split())
    assert all(f"{share:.1%}" in shown for share in shares)
    assert "judged: 100.0% of the gpt-4o-mini, 100.0% of the gpt-4o, 100.0% of the o3:high answers" in shown


def test_savings_give_a_share_a_rung(turnout: Turnout, spool: tuple[Path, list[float]]):
    log, _ = spool
    found = json.loads(turnout("savings", log, "--quiet", "--json").out)
    assert list(found["share_rungs"]) == list(NAMES)
    assert sum(found["share_rungs"].values()) == pytest.approx(1.0)
    assert found["share_rungs"][NAMES[0]] == pytest.approx(found["share_weak"])
    assert found["saved_usd"] > 0
    ended = turnout("savings", log, "--quiet")
    assert f"o3:high {found['share_rungs'][NAMES[2]]:.1%}" in " ".join(ended.out.split())
    assert "the top's answers are taken to be" in ended.out


def test_nothing_of_rungs_is_said_of_a_pair(turnout: Turnout, tmp_path: Path, bundle_folder: Path):
    made = [decision(str(n), p_match=0.6 + 0.3 * (n % 2), route="weak" if n % 2 else "strong") for n in range(40)]
    sealed(tmp_path / "spool", [*made, *(outcome(str(n)) for n in range(40))])
    for command in (("savings", tmp_path / "spool"), ("replay-policy", tmp_path / "spool", "--bundle", bundle_folder)):
        ended = turnout(*command, "--quiet", "--json")
        assert ended.code == 0
        assert "rung" not in ended.out
        assert "length_ratios" not in ended.out
    refused = turnout("replay-policy", tmp_path / "spool", "--bundle", "models/gpt-4o-mini_gpt-4o_o3", "--quiet")
    assert refused.code != 0
    assert "--bundle" in refused.err


def test_rules_try_has_a_column_a_rung(turnout: Turnout, tmp_path: Path, ladder_bundle_folder: Path):
    rules, log = tmp_path / "rules.toml", tmp_path / "log.jsonl"
    rules.write_text('[[rules]]\nname = "drafts"\ntasks = ["draft"]\nrung = "gpt-4o"\n')
    texts = ("hello", "word " * 20, "word " * 400, "hello again")
    lines = [{"id": str(n), "prompt": text, "task": "draft" if n == 3 else "chat"} for n, text in enumerate(texts)]
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    asked = ("rules", "try", rules, log, "--bundle", ladder_bundle_folder, "--quiet")
    found = json.loads(turnout(*asked, "--json").out)
    assert found["total"]["share_rungs_before"] == dict(zip(NAMES, (0.5, 0.25, 0.25), strict=True))
    assert found["total"]["share_rungs_after"] == dict(zip(NAMES, (0.25, 0.5, 0.25), strict=True))
    shown = " ".join(turnout(*asked).out.split())
    assert "50.0% to" in shown  # the end of it stands in the line below
    assert "weak before" not in shown


def test_bundle_show_gives_what_each_policy_sends_to_each_rung(turnout: Turnout, bundle_folder: Path):
    ladder = Path("models/gpt-4o-mini_gpt-4o_o3")
    found = json.loads(turnout("bundle", "show", ladder, "--json").out)
    shares = {(one["policy"], one["looks"]): one["shares"] for one in found["rung_shares"]}
    assert {policy for policy, _ in shares} == {one["name"] for one in found["policies"]}
    for policy in found["policies"]:
        assert shares[policy["name"], 1][0] == pytest.approx(policy["share_weak"])
        assert sum(shares[policy["name"], 1]) == pytest.approx(1.0)
    shown = turnout("bundle", "show", ladder).out
    assert "o3 / gpt-4o / gpt-4o-mini" in shown
    assert f"{shares['max_worse=0.05', 2][1]:.1%}" in shown
    pair = turnout("bundle", "show", bundle_folder, "--json").out
    assert "rung" not in pair


def test_drift_watches_p_of_each_rung(turnout: Turnout, tmp_path: Path, ladder_bundle_folder: Path):
    bundle_id = read_manifest(ladder_bundle_folder).bundle_id
    made: list[object] = []
    for n in range(700):
        other = NAMES[1] if n % 2 else NAMES[0]
        given = {"p_match": 0.9, "p_rungs": (0.9,), "t_rungs": (0.95,), "rungs": NAMES, "route": "strong"}
        given |= {"model": "o3", "rung": NAMES[2], "other_rung": other, "wants_both": True, "bundle": bundle_id}
        made.append(decision(str(n), **given))
        if n % 4 < 2:  # scores, or a person's word
            is_worse = other == NAMES[1] or n % 40 == 0
            made.append(outcome(str(n), model=other, score=0.0 if is_worse else 1.0))
            made.append(outcome(str(n), model="o3", rung=NAMES[2], score=1.0))
        else:
            made.append(outcome(str(n), preference="strong" if other == NAMES[1] else "weak", score=None))
    sealed(tmp_path / "spool", made)
    compacted(tmp_path / "spool", tmp_path / "logs")
    ended = turnout("drift", tmp_path / "logs", "--bundle", ladder_bundle_folder, "--quiet", "--json")
    measures = {one["name"]: one for one in json.loads(ended.out)["measures"]}
    between, first = measures["calibration_error:gpt-4o"], measures["calibration_error"]
    assert between["is_beyond"]
    assert between["value"] == pytest.approx(0.9)  # worse each time, where 0.9 was said
    assert not first["is_beyond"]  # nine of ten and more matched: none of the other rung's is among them
    assert first["value"] < 0.1
