"""A small second look for tests: a real graph, a logistic regression over an answer's signals, in a bundle that has it.

Its p_match rises with the mean log-probability of the answer's tokens, or with the self-check:

    log-probabilities of 0      accepted          -0.5 and less, or no signal      escalated (at a threshold of 0.7)
"""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import msgspec
import numpy as np
from onnx import checker, parser

from tests.builders import digest_of, tiny_bundle, tiny_manifest, write_manifest
from turnout.serving.bundles.bundle import CHECKER, GOLDEN_CHECKS, Bundle
from turnout.serving.bundles.policy import CheckedPolicy
from turnout.serving.bundles.second_look import GoldenCheck
from turnout.serving.router.answer import Answer
from turnout.serving.router.answer_features import SIGNALS, STRUCTURE
from turnout.serving.router.checker import CheckerModel

T_STRONG, T_WEAK, T_ACCEPT = 0.05, 0.99, 0.7

_GRAPH = f"""
<ir_version: 10, opset_import: ["" : 18]>
checker (int64[k] buckets, float[k] counts, float[{len(STRUCTURE)}] structure, int64 shape, float first,
         float[{len(SIGNALS)}] signals) => (float p_checker, float p_signals, bool[{len(SIGNALS)}] is_used)
<float zero = {{0.0}}, float slope = {{8.0}}, float start = {{3.0}}, float low = {{-1.0}}, float tenth = {{0.1}}>
{{
    is_absent = IsNaN (signals)
    is_used = Not (is_absent)
    known = Where (is_absent, zero, signals)
    sum = ReduceSum <keepdims = 0> (known)
    sloped = Mul (sum, slope)
    line = Add (sloped, start)
    p_signals = Sigmoid (line)
    used = Cast <to = 1> (is_used)
    most = ReduceMax <keepdims = 0> (used)
    has_any = Greater (most, zero)
    of_signal = Where (has_any, line, low)
    of_prompt = Mul (first, tenth)
    whole = Add (of_signal, of_prompt)
    p_checker = Sigmoid (whole)
}}
"""
"""Logit 3 + 8 x signal, or -1 without one, and a tenth of the first look's."""


@cache
def tiny_checker_graph() -> bytes:
    """Return the bytes of the graph."""
    model = parser.parse_model(_GRAPH)
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def signal_checker() -> CheckerModel:
    """Return the second look; it reads no word of an answer."""
    none = np.zeros(0, np.int64), np.zeros(0, np.float32)
    return CheckerModel(tiny_checker_graph(), lambda _: none)


def checked_policy(**changes: object) -> CheckedPolicy:
    """Return thresholds under which nearly everything is tried."""
    whole = CheckedPolicy(
        t_strong=T_STRONG,
        t_weak=T_WEAK,
        t_accept=T_ACCEPT,
        is_met=True,
        share_weak=0.1,
        share_tried=0.8,
        share_escalated=0.3,
        share_answered_weak=0.6,
        quality_kept=0.99,
        share_worse=0.005,
        share_worse_bound=0.01,
        delta=0.1,
        cost_ratio=0.5,
    )
    return msgspec.structs.replace(whole, **changes)


def with_second_look(bundle: Bundle, **changes: object) -> Bundle:
    """Return the bundle with a second look, and all its policies with a rule over three actions."""
    checked = checked_policy(**changes)
    policies = [msgspec.structs.replace(policy, checked=checked) for policy in bundle.manifest.policies]
    manifest = msgspec.structs.replace(bundle.manifest, policies=policies)
    return dataclasses.replace(bundle, manifest=manifest, checker=signal_checker())


def checked_folder(folder: Path, **changes: object) -> Path:
    """Write a bundle with this second look; return its folder."""
    tiny_bundle(folder, plus_is_unfamiliar=True)
    asked = GoldenCheck("hello", "Paris.", 1.0, 0.0, 0.0, mean_logprob=-0.25)
    said = [
        signal_checker().check(asked.prompt, Answer(asked.answer), asked.signals, asked.first_log_odds, unlike).p_match
        for unlike in (False, True)
    ]
    golden = msgspec.structs.replace(asked, p_checker=said[0], p_signals=said[1])
    (folder / CHECKER).write_bytes(tiny_checker_graph())
    (folder / GOLDEN_CHECKS).write_bytes(msgspec.json.encode(golden))
    manifest = tiny_manifest(folder)
    files = manifest.files | {name: digest_of(folder / name) for name in (CHECKER, GOLDEN_CHECKS)}
    policies = [msgspec.structs.replace(one, checked=checked_policy(**changes)) for one in manifest.policies]
    write_manifest(folder, msgspec.structs.replace(manifest, files=files, policies=policies))
    return folder
