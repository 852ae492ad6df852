"""A request unlike the training data goes strong for certain, unless the rules say otherwise."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import grpc
import msgspec
import pytest

from tests.builders import digest_of, tiny_bundle, tiny_manifest, write_manifest
from tests.log_builders import record
from tests.running import ServerProcess, lifecycle_of, route, server_in_loop, server_process
from tests.training.runs import TrainingRun
from turnout.serving.bundles.bundle import GOLDEN, Bundle, load_bundle
from turnout.serving.bundles.manifest import MANIFEST
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.cli.route import decision_line
from turnout.serving.decision.decision import decide, is_strange, threshold_policy
from turnout.serving.decision.routes import Action, Reason, Route
from turnout.serving.decision.rules.rules import Before, Facts
from turnout.serving.errors import BundleRefused
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.router.ties import tenant_digest
from turnout.serving.service.shadow import Sighting, compare
from turnout.serving.wire.route import ROUTE_METHOD
from turnout.training.bundle.manifest import MAX_TENANTS, tenants_of

FAMILIAR, STRANGE = "hello the word", "hello the + word"
EXPLORING = "[exploration]\nrate = 0.5\n[session]\nstay_strong = true\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("strange") / "tiny", plus_is_unfamiliar=True)


@pytest.fixture(scope="module")
def strict(folder: Path) -> Bundle:
    return load_bundle(folder)


@pytest.fixture(scope="module", params=["strong", "model"])
def serving(request: pytest.FixtureRequest, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """Serve the bundle with exploration on, once for each value of the key; return it with the server."""
    place = tmp_path_factory.mktemp("server")
    rules = place / "rules.toml"
    rules.write_text(f'out_of_distribution = "{request.param}"\n{EXPLORING}')
    with server_process(folder, place / "stderr.log", "--rules", str(rules)) as running:
        yield request.param, running


def test_stranger_goes_strong_whatever_the_threshold(strict: Bundle):
    prompt = prompt_from_text(STRANGE)
    for threshold in (0.0, 0.5, 1.0):
        decision = decide(strict, prompt, threshold_policy(threshold))
        assert (decision.route, decision.reason) == (Route.STRONG, Reason.OUT_OF_DISTRIBUTION)
        assert decision.route_propensity == 1.0
    assert decide(strict, prompt_from_text(FAMILIAR), threshold_policy(0.0)).reason is Reason.MODEL


def test_p_match_of_a_stranger_stays_and_its_confidence_does_not(strict: Bundle):
    decision = decide(strict, prompt_from_text(STRANGE), strict.manifest.policy(""))
    assert decision.p_match == strict.model.predict(prompt_from_text(STRANGE), decision.threshold).p_match
    assert decision.p_match > decision.threshold
    assert decision.confidence is None
    assert f"p_match {decision.p_match:.3f}" in decision_line(decision)


def test_rules_choose_who_decides_on_strangers(serving: tuple[str, ServerProcess]):
    decider, server = serving
    replies = [
        route(server.address, text=STRANGE, session_id=f"s-{number}", previous_tier=previous)
        for number in range(30)
        for previous in (pb.TIER_UNSPECIFIED, pb.TIER_STRONG, pb.TIER_WEAK)
    ]
    reasons = {reply.reason for reply in replies}
    if decider == "strong":
        assert reasons == {pb.REASON_OUT_OF_DISTRIBUTION}
        assert {(reply.tier, reply.route_propensity) for reply in replies} == {(pb.TIER_STRONG, 1.0)}
        assert all(reply.HasField("p_match") and not reply.HasField("confidence") for reply in replies)
    else:
        assert reasons == {pb.REASON_MODEL, pb.REASON_EXPLORATION, pb.REASON_SESSION}
        assert all(reply.HasField("confidence") for reply in replies)


def test_familiar_request_of_the_same_bundle_is_still_the_models(serving: tuple[str, ServerProcess]):
    replies = [route(serving[1].address, text=FAMILIAR, session_id=f"s-{number}") for number in range(20)]
    assert {reply.reason for reply in replies} == {pb.REASON_MODEL, pb.REASON_EXPLORATION}


def test_cached_answer_remembers_that_the_request_was_strange(serving: tuple[str, ServerProcess]):
    decider, server = serving
    first, second = (route(server.address, text=f"{STRANGE} again", session_id="same") for _ in range(2))
    assert first.reason == second.reason
    assert (first.reason == pb.REASON_OUT_OF_DISTRIBUTION) == (decider == "strong")


@pytest.mark.parametrize(("falls_back", "agrees"), [(True, False), (False, True)])
def test_shadow_that_falls_back_disagrees_with_a_champion_that_went_weak(
    strict: Bundle, falls_back: bool, agrees: bool
):
    said = strict.model.predict(prompt_from_text(STRANGE), 0.5).p_match
    sighting = Sighting(strict, prompt_from_text(STRANGE), "", 0.5, said, action=Action.WEAK, falls_back=falls_back)
    assert compare(sighting).agrees is agrees
    assert compare(dataclasses.replace(sighting, prompt=prompt_from_text(FAMILIAR))).agrees


def test_golden_prompt_called_otherwise_is_refused(tmp_path: Path):
    folder = tiny_bundle(tmp_path / "b", plus_is_unfamiliar=True)
    lines = [msgspec.json.decode(line) for line in (folder / GOLDEN).read_bytes().splitlines()]
    lines[1]["is_out_of_distribution"] = True
    (folder / GOLDEN).write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    write_manifest(folder, tiny_manifest(folder))
    with pytest.raises(BundleRefused, match="line 2: out of distribution expected True, got False"):
        load_bundle(folder)


def test_bundle_of_the_format_before_loads_and_finds_no_stranger(tmp_path: Path):
    folder = tiny_bundle(tmp_path / "b")
    lines = [msgspec.json.decode(line) for line in (folder / GOLDEN).read_bytes().splitlines()]
    for line in lines:
        del line["is_out_of_distribution"]
    (folder / GOLDEN).write_bytes(b"\n".join(map(msgspec.json.encode, lines)))
    fields = msgspec.to_builtins(tiny_manifest(folder)) | {"format_version": 1}
    del fields["out_of_distribution"]
    write_manifest(folder, fields)
    bundle = load_bundle(folder)
    assert bundle.manifest.out_of_distribution is None
    assert not bundle.model.predict(prompt_from_text(STRANGE), 0.5).is_out_of_distribution
    assert digest_of(folder / MANIFEST).size > 0


def test_shipped_champion_still_loads():
    bundle = load_bundle(find_bundle(None))
    looks = bundle.manifest.out_of_distribution is not None
    assert looks == (bundle.manifest.format_version >= 2)
    bundle.model.predict(prompt_from_text("What is the capital of Australia?"), 0.5)


TASKS = {"code": 120, "chat": 7}


@pytest.mark.parametrize(
    ("task", "least", "reason"),
    [
        ("code", 50, Reason.MODEL),
        ("chat", 50, Reason.OUT_OF_DISTRIBUTION),
        ("never seen", 50, Reason.OUT_OF_DISTRIBUTION),
        ("", 50, Reason.MODEL),
        ("chat", 5, Reason.MODEL),
        ("never seen", None, Reason.MODEL),
    ],
)
def test_task_with_too_few_labelled_rows_is_a_stranger_where_rules_ask(
    strict: Bundle, tmp_path: Path, task: str, least: int | None, reason: Reason
):
    rules = tmp_path / "rules.toml"
    rules.write_text("" if least is None else f"least_task_rows = {least}\n")

    async def told() -> list[tuple[int, int]]:
        found = []
        served = dataclasses.replace(strict, tasks=TASKS)
        async with (
            server_in_loop(lifecycle_of(served, cache_items=10), rules=rules) as (_, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            for named in (task, "code", task):  # the cache keeps what the model said, and not what a name makes of it
                asked = pb.RouteRequest(text=FAMILIAR, task=named, threshold=0.0).SerializeToString()
                reply = pb.RouteResponse.FromString(await channel.unary_unary(ROUTE_METHOD)(asked, timeout=60))
                found.append((reply.tier, reply.reason))
        return found

    first, other, again = asyncio.run(told())
    assert pb.Reason.Name(first[1]) == f"REASON_{reason.name}"
    assert (first[0] == pb.TIER_STRONG) == (reason is Reason.OUT_OF_DISTRIBUTION)
    assert first == again
    assert other == (pb.TIER_WEAK, pb.REASON_MODEL)


@pytest.mark.parametrize(
    ("tenant", "reason"),
    [("acme", Reason.MODEL), ("small", Reason.OUT_OF_DISTRIBUTION), ("new", Reason.OUT_OF_DISTRIBUTION)],
)
def test_tenant_with_too_few_labelled_rows_is_a_stranger_where_rules_ask(
    strict: Bundle, tmp_path: Path, tenant: str, reason: Reason
):
    rules = tmp_path / "rules.toml"
    rules.write_text("least_tenant_rows = 50\nleast_task_rows = 50\n")
    before = strict.manifest.training
    counts = {tenant_digest(name, before.group_salt): n for name, n in (("acme", 60), ("small", 49))}
    training = msgspec.structs.replace(before, tenants=counts)
    manifest = msgspec.structs.replace(strict.manifest, training=training)
    served = dataclasses.replace(strict, manifest=manifest, tasks=TASKS)

    async def told() -> list[int]:
        async with (
            server_in_loop(lifecycle_of(served), rules=rules) as (_, address),
            grpc.aio.insecure_channel(address) as channel,
        ):
            found = []
            for named in (tenant, ""):
                asked = pb.RouteRequest(text=FAMILIAR, tenant=named, task="code", threshold=0.0).SerializeToString()
                raw = await channel.unary_unary(ROUTE_METHOD)(asked, timeout=60)
                found.append(pb.RouteResponse.FromString(raw).reason)
            return found

    named, unnamed = asyncio.run(told())
    assert pb.Reason.Name(named) == f"REASON_{reason.name}"
    assert unnamed == pb.REASON_MODEL


def test_bundle_of_logs_without_names_knows_no_strangers_by_name(strict: Bundle):
    assert not strict.tasks
    assert not strict.manifest.training.tenants
    facts = Facts(prompt_from_text(FAMILIAR), tenant="anybody", task="anything")
    assert not is_strange(strict, facts, Before(least_task_rows=50, least_tenant_rows=50))


def test_bundle_counts_its_tenants_without_their_names():
    records = [dataclasses.replace(record(), tenant=name) for name in ("acme", "acme", "other", None, "")]
    kept = tenants_of(records, "salt")
    assert sorted(kept.values()) == [1, 2]
    assert kept[tenant_digest("acme", "salt")] == 2
    assert tenant_digest("acme", "another salt") not in kept
    assert "acme" not in str(kept)
    assert len(tenants_of([dataclasses.replace(record(), tenant=f"{n}") for n in range(3 * MAX_TENANTS)], "")) <= (
        MAX_TENANTS
    )


def test_tasks_of_a_bundle_are_those_of_its_report(training_run: TrainingRun):
    tasks = load_bundle(training_run.bundle).tasks
    assert tasks
    assert all(n > 0 for n in tasks.values())


def test_challenger_is_compared_as_a_stranger_too(strict: Bundle):
    sighting = Sighting(strict, prompt_from_text(FAMILIAR), "", 0.0, 0.9, Action.STRONG, is_stranger=True)
    assert compare(sighting).agrees
    assert not compare(dataclasses.replace(sighting, is_stranger=False)).agrees
