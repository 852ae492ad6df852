"""A bundle names the rules by which its prompts lose their harness text, and keeps to them."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from tests.builders import tiny_bundle, tiny_manifest, write_manifest, write_raw_manifest
from turnout.serving.bundles.bundle import Bundle, load_bundle
from turnout.serving.bundles.manifest import MANIFEST
from turnout.serving.bundles.registry import find_bundle
from turnout.serving.errors import BundleRefused
from turnout.serving.router.harness import LATEST_HARNESS_RULES, strip_harness
from turnout.serving.router.model import RouterModel
from turnout.serving.router.prompt import ChatBody, Message, prompt_from_chat, prompt_from_text

TASK = "Rename the function in util.py to the name that its callers expect"
REMINDER = "<system-reminder>\nThe to-do list is empty.\n</system-reminder>"
AGENT = prompt_from_chat(
    ChatBody(
        [
            Message("system", "You are Cline, a highly skilled software engineer."),
            Message("user", f"{TASK}\n\n{REMINDER}"),
            Message("tool", "def f(): ..."),
        ]
    )
)
PLAIN = prompt_from_text(TASK)


def bundle_with_rules(folder: Path, version: int) -> Path:
    tiny_bundle(folder)
    write_manifest(folder, msgspec.structs.replace(tiny_manifest(folder), harness_rules=version))
    return folder


def p_match(bundle: Bundle, prompt: object) -> float:
    return bundle.model.predict(prompt, 0.5).p_match


def test_harness_text_changes_nothing_for_a_bundle_that_leaves_it_out(tmp_path: Path):
    bundle = load_bundle(bundle_with_rules(tmp_path, 1))
    assert p_match(bundle, AGENT) == p_match(bundle, PLAIN)


def test_bundle_without_a_version_reads_all_text_as_it_did(tmp_path: Path):
    fields = msgspec.to_builtins(tiny_manifest(tiny_bundle(tmp_path)))
    del fields["harness_rules"]
    write_raw_manifest(tmp_path, msgspec.json.encode(fields))
    old = load_bundle(tmp_path)
    assert old.manifest.harness_rules == 0
    raw = RouterModel((tmp_path / "router.onnx").read_bytes(), (tmp_path / "tokenizer.json").read_bytes(), 128)
    assert p_match(old, AGENT) == raw.predict(AGENT, 0.5).p_match != p_match(old, PLAIN)


def test_shipped_champion_leaves_harness_text_out():
    champion = load_bundle(find_bundle())
    assert champion.manifest.harness_rules == LATEST_HARNESS_RULES
    assert p_match(champion, prompt_from_text(f"{TASK}\n\n{REMINDER}")) == p_match(champion, PLAIN)


@pytest.mark.parametrize("version", [-1, LATEST_HARNESS_RULES + 1])
def test_bundle_of_unknown_rules_is_refused(tmp_path: Path, version: int):
    with pytest.raises(BundleRefused, match=f"harness rules of version {version}, this Turnout has 0 to") as refused:
        load_bundle(bundle_with_rules(tmp_path, version))
    assert str(tmp_path / MANIFEST) in str(refused.value)
    assert "upgrade Turnout" in str(refused.value)


def test_rendered_conversation_and_its_text_are_read_alike():
    assert strip_harness(AGENT.text, 1) == TASK
