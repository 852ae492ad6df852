"""What the page to try a prompt asks beside the calls of others: the model, and which words are strange to it."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import pytest

from tests.http_calls import HttpProcess, call, http_server
from tests.serving.gateways.test_http_access import GATEWAY, READER, bearer, token_table
from turnout.serving.bundles.bundle import GRAPH, Bundle, load_bundle, read_file_of
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.protocols.http.trying import PAGE
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.router.strange_words import StrangeWords

EASY = "What is the capital of France?"
HARD = "How many positive integers below 1000 are divisible by neither 3 nor 7?"
STRANGE = "Pray, mix a zabaglione with Vin Santo for my nan's quinceañera, y'all."


@pytest.fixture(scope="module")
def champion() -> Bundle:
    return load_bundle(find_bundle())


def test_policy_of_the_page_names_digests_and_forbids_all_else(http_process: HttpProcess):
    reply = http_process.call("/")
    policy = reply.headers["content-security-policy"]
    assert reply.body == PAGE.read_bytes()
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert reply.headers["referrer-policy"] == "no-referrer"
    assert not re.search(rb'(?:src|href)="|style="|innerHTML|https?://', reply.body)


def test_page_can_be_turned_off_and_its_data_stand_behind_tokens(bundle: Bundle, tmp_path: Path):
    tokens = tmp_path / "tokens.toml"
    tokens.write_text(token_table("gateway", GATEWAY, '["*"]') + token_table("reader", READER, '["DescribeModel"]'))

    async def check() -> None:
        async with http_server(bundle, page=False) as (_, _, http):
            assert (await call(http, "/")).status == 404
            assert (await call(http, "/v1/model")).json()["bundle"] == bundle.manifest.bundle_id
        async with http_server(bundle, tokens=tokens) as (_, _, http):
            assert (await call(http, "/")).status == 200
            assert (await call(http, "/v1/model")).status == 401
            assert (await call(http, "/v1/model", **bearer(READER))).status == 200
            assert (await call(http, "/v1/model?bundle=none-such", **bearer(READER))).status == 404
            assert (await call(http, "/v1/words", {"text": EASY})).status == 401
            assert (await call(http, "/v1/words", {"text": EASY}, **bearer(READER))).status == 403
            assert (await call(http, "/v1/words", {"text": EASY}, **bearer(GATEWAY))).json()["limit"] is None

    asyncio.run(check())


@pytest.mark.parametrize(
    "body", [b"", b"[1]", {"text": 1}, {"prompt": "canary-in-the-mine"}, {"text": "x", "bundle": 3}]
)
def test_bad_bodies_are_refused_without_their_text(http_process: HttpProcess, body: object):
    reply = http_process.call("/v1/words", body)
    assert (reply.status, reply.json()["code"]) == (400, "invalid_argument")
    assert b"canary" not in reply.body


@pytest.mark.parametrize("text", [EASY, HARD, STRANGE, "", "x y " * 3000, "明日の会議は何時ですか。"])
def test_share_of_rare_words_is_the_rule_of_the_graph(champion: Bundle, text: str):
    rule = StrangeWords.of(read_file_of(champion, GRAPH))
    prompt = prompt_from_text(text)
    found = rule.look(champion.model.featurize, prompt)
    assert (found.rare_share > found.limit) == champion.model.predict(prompt, 0.8).is_out_of_distribution
    assert found.limit == pytest.approx(champion.manifest.out_of_distribution.limit)


def test_graphs_without_the_rule_have_no_strange_words(bundle: Bundle):
    assert StrangeWords.of(read_file_of(bundle, GRAPH)) is None
    assert StrangeWords.of(b"no graph") is None
