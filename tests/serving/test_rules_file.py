"""A rules file is accepted or refused as a whole; a refusal names the key, what was expected and what is there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.serving.bundles.bundle import Bundle
from turnout.serving.bundles.risk_path import RiskPath
from turnout.serving.decision.routes import Route
from turnout.serving.decision.rules import Rules, RulesSpec, read_rules
from turnout.serving.decision.rules.names import check_names
from turnout.serving.decision.rules.reading import MAX_FILE_BYTES, decode_rules
from turnout.serving.decision.rules.spec import (
    EXPECTED,
    ExplorationSpec,
    ModelSpec,
    PolicyExplorationSpec,
    RuleSpec,
    SessionSpec,
)
from turnout.serving.errors import EXIT_USAGE, RulesRefused

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operate" / "rules.md"
RULE = '[[rules]]\nname = "a"\n'
EXPLORATION = ("rate", "both", "min_p_match")
"""Its keys that have a number as their default."""


def decoded(toml: str) -> RulesSpec:
    return decode_rules(toml.encode(), "rules.toml")


def refusal_of(raw: bytes) -> str | None:
    """Return the refusal's text; None when the bytes are accepted. Lets any other exception through."""
    try:
        decode_rules(raw, "rules.toml")
    except RulesRefused as refused:
        return str(refused)
    return None


def as_toml(fields: dict[str, object]) -> bytes:
    """Booleans, numbers and plain text are written as in JSON, save for NaN and infinities."""
    names = {"NaN": "nan", "Infinity": "inf", "-Infinity": "-inf"}
    texts = {key: json.dumps(value) for key, value in fields.items()}
    return "".join(f"{key} = {names.get(text, text)}\n" for key, text in texts.items()).encode()


def keys_of(struct: type[msgspec.Struct], prefix: str = "") -> set[str]:
    return {f"{prefix}{name}" for name in struct.__struct_fields__}


def test_an_empty_file_is_no_file():
    assert decoded("") == RulesSpec() == Rules().spec


def test_the_pages_example_is_valid_and_sets_every_top_level_key():
    (example,) = re.findall(r"^```toml\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    spec = decoded(example)
    assert [rule.name for rule in spec.rules] == ["legal stays strong", "support, a fifth of it", "drafts"]
    assert spec.rules[0].route is Route.STRONG
    assert spec.rules[1].rollout_percent == 20
    assert (spec.images, spec.exploration.rate, spec.session.count_switch_cost) == ("strong", 0.02, True)
    assert msgspec.toml.decode(example.encode()).keys() == set(RulesSpec.__struct_fields__)


def test_the_page_explains_every_key_with_its_default():
    rows = re.findall(r"^\| `([a-z_.]+)` \| (.*) \| (.*) \| .+ \|$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    structs = {
        "rules": RuleSpec,
        "session": SessionSpec,
        "exploration": ExplorationSpec,
        "exploration.policies": PolicyExplorationSpec,
        "models": ModelSpec,
    }
    tables = structs.keys()
    keys = keys_of(RulesSpec)
    for name, struct in structs.items():
        keys |= keys_of(struct, f"{name}.")
    keys -= tables
    assert {key for key, _, _ in rows} == keys == EXPECTED.keys() - tables
    defaults = {key: default.strip("`") for key, _, default in rows}
    spec = RulesSpec()
    for key in ("otherwise", "max_estimated_tokens", "images", "tools", "salt"):
        assert msgspec.json.encode(getattr(spec, key)).decode() == defaults[key]
    for key in ("session.stay_strong", "session.count_switch_cost", *map("exploration.{}".format, EXPLORATION)):
        table, _, name = key.partition(".")
        assert msgspec.json.encode(getattr(getattr(spec, table), name)).decode() == defaults[key]


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ("salt = 3", "salt: expected text of at most 64 bytes, got 3"),
        (f'salt = "{"ß" * 33}"', "salt: expected text of at most 64 bytes, got 66 bytes"),
        ('otherwise = "weak"', "otherwise: expected 'model' or 'strong', got 'weak'"),
        ("max_estimated_tokens = 0", "max_estimated_tokens: expected a whole number of tokens, 1 or more, got 0"),
        ("max_estimated_tokens = 1.5", "expected a whole number of tokens, 1 or more, got 1.5"),
        ('policy = ""', "policy: expected the name of a policy"),
        ("images = true", "images: expected 'model' or 'strong', got True"),
        ('polcy = "x"', "polcy: unknown key; known: salt, policy, otherwise,"),
        ("session = 1", "session: expected a table headed [session], got 1"),
        ("rules = 1", "rules: expected tables headed [[rules]], got 1"),
        ("[session]\nsticky = true", "session.sticky: unknown key; known: stay_strong, count_switch_cost"),
        ("[exploration]\nrate = 0.6", "exploration.rate: expected a number from 0 to 0.5, got 0.6"),
        ("[exploration]\nrate = nan", "exploration.rate: expected a number from 0 to 0.5, got nan"),
        (
            "[exploration]\nmax_usd_per_hour = -1",
            "exploration.max_usd_per_hour: expected USD an hour, 0 or more, got -1",
        ),
        ("[[exploration.policies]]\nboth = 0.1", "exploration.policies[0].policy: expected a pattern over names"),
        (
            '[[exploration.policies]]\npolicy = "x"\nrate = 1',
            "exploration.policies[0].rate: expected a number from 0 to 0.5, got 1",
        ),
        ('[[rules]]\nroute = "weak"', "rules[0].name: expected text of 1 to 200 characters, got nothing"),
        (f"{RULE}rollout_percent = 120", "rules[0].rollout_percent: expected a number from 0 to 100, got 120"),
        (f"{RULE}threshold = inf", "rules[0].threshold: expected a number from 0 to 1, got inf"),
        (f'{RULE}route = "mini"', "rules[0].route: expected 'strong' or 'weak', got 'mini'"),
        (f"{RULE}tasks = []", "rules[0].tasks: expected a list of one or more patterns"),
        (f'{RULE}tasks = "legal"', "rules[0].tasks: expected a list of one or more patterns"),
        (f"{RULE}tenants = [7]", "rules[0].tenants[0]: expected a list of one or more patterns"),
        (f'{RULE}tenant = ["x"]', "rules[0].tenant: unknown key; known: name, tasks, tenants, route,"),
        (f'{RULE}policy = "p"\nthreshold = 0.5', "rules[0] ('a'): expected a policy or a threshold, got both"),
        (f'{RULE}route = "weak"\nrollout_percent = 5', "rules[0] ('a'): expected no rollout_percent beside route"),
        (f'{RULE}route = "weak"\nexploration = 0.1', "rules[0] ('a'): expected no exploration beside route"),
        (f'{RULE}route = "weak"\nboth = 0.1', "rules[0] ('a'): expected no both beside route"),
        (f'{RULE}tasks = ["x"]\n{RULE}', "rules[1].name: expected a name of its own, got 'a', which rules[0] has"),
        (f'{RULE}[[rules]]\nname = "b"', "rules[1] ('b'): never applies, as rules[0] fits every request"),
        ("salt = ", "not TOML in UTF-8"),
        (f'{RULE}route = "weak"\nrung = "o3"', "rules[0] ('a'): expected a route or a rung, got both"),
        (f'{RULE}rung = "o3"\nallow = ["o3"]', "rules[0] ('a'): expected no allow beside rung"),
        (f"{RULE}allow = []", "rules[0].allow: expected a list of one or more rungs"),
        ('[models."o3"]\nimages = 1', 'models."o3".images: expected true or false, got 1'),
        ('[models."a.b"]\nimage = true', 'models."a.b".image: unknown key; known: images, audio,'),
        ('[models]\n"o3" = 3', 'models."o3": expected a table of what the model can\'t do, got 3'),
        ('[models."o3"]\nscripts = [3]', 'models."o3".scripts[0]: expected a list of one or more writing systems'),
        ('[models."o3"]\ncontext_window = 0', 'models."o3".context_window: expected a whole number of tokens'),
    ],
)
def test_a_refusal_names_the_key_what_was_expected_and_what_is_there(toml: str, says: str):
    with pytest.raises(RulesRefused) as refused:
        decoded(toml)
    assert str(refused.value).startswith("rules.toml: ")
    assert says in str(refused.value)
    assert refused.value.exit_code == EXIT_USAGE


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(raw: bytes):
    refusal = refusal_of(raw)
    assert refusal is None or refusal.startswith("rules.toml: ")


VALUES = st.one_of(st.booleans(), st.integers(-5, 200), st.floats(), st.sampled_from(["strong", "model", "", "x"]))


@given(st.dictionaries(st.sampled_from([key for key in EXPECTED if "." not in key] + ["other"]), VALUES, max_size=3))
def test_any_value_for_any_key_is_read_or_refused_by_its_key(fields: dict[str, object]):
    refusal = refusal_of(as_toml(fields))
    assert refusal is None or any(refusal.startswith(f"rules.toml: {key}: ") for key in fields)


def test_a_file_that_is_absent_or_too_large_is_refused(tmp_path: Path):
    path = tmp_path / "rules.toml"
    with pytest.raises(RulesRefused, match="cannot be read: No such file"):
        read_rules(path)
    path.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(RulesRefused, match="at most 1048576 bytes"):
        read_rules(path)
    path.write_bytes(b"#" * MAX_FILE_BYTES)
    assert read_rules(path) == RulesSpec()


@pytest.mark.parametrize(
    ("toml", "says"),
    [
        ('policy = "max_worse=7"', "policy: expected a policy of bundle tiny/1 (max_worse=0.01, max_worse=0.05)"),
        (f'{RULE}bundle = "other"', "rules[0].bundle ('a'): expected one of the bundles served (tiny/1, support/3)"),
        (f'{RULE}bundle = "tiny/2"', "got 'tiny/2'"),
        (f'{RULE}policy = "fast"', "rules[0].policy ('a'): expected a policy of bundle tiny/1"),
        (f'{RULE}bundle = "tiny"\npolicy = "fast"', "rules[0].policy ('a'): expected a policy of bundle tiny/1"),
    ],
)
def test_names_that_are_not_served_are_refused(bundle: Bundle, toml: str, says: str):
    own = msgspec.structs.replace(bundle.manifest.policies[0], name="fast")
    support = msgspec.structs.replace(
        bundle.manifest, name="support", version="3", policies=[*bundle.manifest.policies, own]
    )
    served = (bundle.manifest, support)
    with pytest.raises(RulesRefused, match=re.escape(says)):
        check_names(Rules(decoded(toml)), served)
    for good in (
        "",
        'policy = "max_worse=0.05"',
        f'{RULE}bundle = "support"\npolicy = "fast"',
        f'{RULE}bundle="tiny/1"',
    ):
        check_names(Rules(decoded(good)), served)


def test_any_level_of_a_promise_is_a_policy_where_the_bundle_solves_it(bundle: Bundle):
    path = RiskPath((0.9, 0.8), (0, 5), (0.1, 0.2), (0.0, 0.005), 1000, 0.07, 0.1)
    solving = msgspec.structs.replace(bundle.manifest, risk=path)
    rules = Rules(decoded('policy = "max_worse=0.03"'))
    check_names(rules, [solving])
    with pytest.raises(RulesRefused, match="expected a policy of bundle"):
        check_names(rules, [bundle.manifest])
