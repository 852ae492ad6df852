"""Small real things for tests: a bundle with a real graph and tokenizer that loads in milliseconds.

The graph has the inputs and outputs of a trained router. Its p_match falls with the length of the
prompt; the prompt can make it misbehave on purpose:

    a digit             p_match is NaN (with `nan_on_digits`)
    a plus sign         the prompt is out of distribution (with `plus_is_unfamiliar`)
    question marks      each costs `work_per_question` multiplications of 192 x 192 matrices
"""

from __future__ import annotations

import hashlib
import string
from pathlib import Path

import msgspec
import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from turnout.serving.bundles.bundle import GOLDEN, GRAPH, RUNGS, TOKENIZER
from turnout.serving.bundles.ladder import rung_of
from turnout.serving.bundles.manifest import (
    FORMAT_VERSION,
    GOLDEN_THRESHOLD,
    LADDER_FORMAT_VERSION,
    MANIFEST,
    MANIFEST_DIGEST,
    Encoder,
    FileDigest,
    Golden,
    Manifest,
    Pair,
    Training,
)
from turnout.serving.bundles.policy import CheckedPolicy, Policy
from turnout.serving.bundles.registry import CURRENT
from turnout.serving.bundles.risk_path import RiskPath
from turnout.serving.router.features import SCHEMA_VERSION, STRUCTURAL
from turnout.serving.router.model import RouterModel
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.router.rungs import RungHeads

MAX_TOKENS = 128
EXIT_BAND = 0.1
BIAS = 3.2
BUNDLE_ID = "tiny/1"
DEFAULT_POLICY = "max_worse=0.01"
GOLDEN_PROMPTS = ("Hello there", "Write a short poem about railway switches", "word " * 60)


def tiny_bundle(
    folder: Path,
    *,
    version: str = "1",
    name: str = "tiny",
    bias: float = BIAS,
    nan_on_digits: bool = False,
    work_per_question: int = 0,
    plus_is_unfamiliar: bool = False,
) -> Path:
    """Write a bundle into `folder` that `load_bundle` accepts; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    graph = tiny_graph(
        bias=bias,
        nan_on_digits=nan_on_digits,
        work_per_question=work_per_question,
        plus_is_unfamiliar=plus_is_unfamiliar,
    )
    tokenizer = tiny_tokenizer()
    (folder / GRAPH).write_bytes(graph)
    (folder / TOKENIZER).write_bytes(tokenizer)
    (folder / GOLDEN).write_bytes(_golden(RouterModel(graph, tokenizer, MAX_TOKENS)))
    write_manifest(folder, msgspec.structs.replace(tiny_manifest(folder), name=name, version=version))
    return folder


LADDER_NAMES = ("gpt-4o-mini", "gpt-4o", "o3:high")


def tiny_ladder(folder: Path, *names: str, plus_is_unfamiliar: bool = False) -> Path:
    """Write a ladder of the names, the cheapest first, that `load_bundle` accepts; return the folder.

    A rung's p falls with the length of the prompt as p_match does, and each rung's is above that of the one below: with
    the default policy "Hello there" goes to the first, some ten words to the second, a page to the top.
    """
    names = names or LADDER_NAMES
    tiny_bundle(folder, plus_is_unfamiliar=plus_is_unfamiliar)
    between = len(names) - 2
    (folder / RUNGS).write_bytes(tiny_rungs(between))
    model = RouterModel((folder / GRAPH).read_bytes(), (folder / TOKENIZER).read_bytes(), MAX_TOKENS)
    (folder / GOLDEN).write_bytes(_golden(model, RungHeads(tiny_rungs(between))))
    manifest = tiny_manifest(folder)
    files = {name: digest_of(folder / name) for name in (*manifest.files, RUNGS)}
    path = RiskPath(
        (0.99, 0.75, 0.5, 0.25),
        (0, 5, 40, 200),
        (0.1, 0.5, 0.7, 0.9),
        (0.0, 0.005, 0.04, 0.2),
        1000,
        0.07,
        0.1,
        tuple((one,) * between for one in (0.99, 0.8, 0.6, 0.3)),
    )
    ladder = msgspec.structs.replace(
        manifest,
        name="ladder",
        format_version=LADDER_FORMAT_VERSION,
        pair=Pair(strong=names[-1], weak=names[0]),
        rungs=[rung_of(name) for name in names],
        policies=[_over_rungs(policy, between) for policy in manifest.policies],
        risk=path,
        files=files,
    )
    write_manifest(folder, ladder)
    return folder


def _over_rungs(policy: Policy, between: int) -> Policy:
    t_rungs = (policy.threshold + 0.05,) * between
    checked = CheckedPolicy(
        t_strong=0.3,
        t_weak=0.9,
        t_accept=0.5,
        is_met=True,
        share_weak=0.2,
        share_tried=0.6,
        share_escalated=0.2,
        share_answered_weak=0.6,
        quality_kept=0.99,
        share_worse=policy.target / 2,
        share_worse_bound=policy.target,
        delta=0.1,
        cost_ratio=0.4,
        t_rungs=t_rungs,
    )
    return msgspec.structs.replace(policy, t_rungs=t_rungs, checked=checked)


def tiny_rungs(between: int) -> bytes:
    """Return the bytes of `rungs.onnx`: each p a sigmoid of a line in log tokens, higher by one a rung."""
    weights = np.zeros((len(STRUCTURAL), between), np.float32)
    weights[_index("log_tokens")] = -0.8
    node = helper.make_node
    nodes = [
        node("MatMul", ["structural", "weights"], ["lines"]),
        node("ReduceSum", ["counts"], ["total"], keepdims=1),
        node("Size", ["buckets"], ["distinct_long"]),
        node("Cast", ["distinct_long"], ["distinct"], to=TensorProto.FLOAT),
        node("Add", ["total", "distinct"], ["volume"]),
        node("Mul", ["volume", "small"], ["volume_part"]),
        node("Sum", ["lines", "volume_part", "bias"], ["logits"]),
        node("Sigmoid", ["logits"], ["p_rungs"]),
    ]
    constants = {
        "weights": weights,
        "small": np.float32(-0.002),
        "bias": np.arange(1, between + 1, dtype=np.float32) + np.float32(BIAS),
    }
    graph = helper.make_graph(
        nodes,
        "tiny_rungs",
        [
            _value("buckets", TensorProto.INT64, ["k"]),
            _value("counts", TensorProto.FLOAT, ["k"]),
            _value("structural", TensorProto.FLOAT, [len(STRUCTURAL)]),
        ],
        [_value("p_rungs", TensorProto.FLOAT, [between])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def point_to(entry: Path, version: str) -> None:
    """Replace the pointer of a registry's entry atomically, as `publish` does."""
    fresh = entry / f"{CURRENT}.new"
    fresh.write_text(version + "\n")
    fresh.replace(entry / CURRENT)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest with its digest."""
    write_raw_manifest(folder, msgspec.json.encode(manifest))


def write_raw_manifest(folder: Path, raw: bytes) -> None:
    """Write any bytes as the manifest, with the digest that makes them look undamaged."""
    (folder / MANIFEST).write_bytes(raw)
    (folder / MANIFEST_DIGEST).write_text(hashlib.sha256(raw).hexdigest() + "\n")


def tiny_manifest(folder: Path) -> Manifest:
    """Return the manifest of the files in `folder`."""
    names = (GRAPH, TOKENIZER, GOLDEN)
    return Manifest(
        format_version=FORMAT_VERSION,
        feature_schema=SCHEMA_VERSION,
        name="tiny",
        version="1",
        created="2026-11-21T00:00:00Z",
        pair=Pair(),
        encoder=Encoder(name="none", sha256="0" * 64, max_tokens=MAX_TOKENS, dim=0),
        calibrator="none",
        exit_band=EXIT_BAND,
        golden_tolerance=1e-4,
        default_policy=DEFAULT_POLICY,
        policies=[_policy(DEFAULT_POLICY, "max_worse", 0.01, 0.75), _policy("max_worse=0.05", "max_worse", 0.05, 0.5)],
        metrics={},
        intervals={},
        training=Training("0" * 64, {}, {}, "salt", 0, 0.8, {}, {}, {}),
        files={name: digest_of(folder / name) for name in names},
        synthetic=True,
    )


def digest_of(path: Path) -> FileDigest:
    """Return what the manifest says of a file."""
    raw = path.read_bytes()
    return FileDigest(len(raw), hashlib.sha256(raw).hexdigest())


def tiny_tokenizer() -> bytes:
    """Return a WordPiece tokenizer over ASCII characters and a few words."""
    characters = string.ascii_lowercase + string.digits + string.punctuation
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "word", "hello", "the", *characters]
    pieces += [f"##{character}" for character in string.ascii_lowercase + string.digits]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer.to_str().encode()


def tiny_graph(
    *, bias: float = BIAS, nan_on_digits: bool, work_per_question: int, plus_is_unfamiliar: bool = False
) -> bytes:
    """Return the bytes of the graph: `p_match` = sigmoid of a line in log tokens and counts."""
    weights = np.zeros((len(STRUCTURAL), 3), np.float32)
    weights[_index("log_tokens"), 0] = -0.8
    weights[_index("digit_share"), 1] = -1.0 if nan_on_digits else 0.0
    weights[_index("log_questions"), 2] = 1.0
    node = helper.make_node
    nodes = [
        node("MatMul", ["structural", "weights"], ["measures"]),
        node("Split", ["measures"], ["line", "minus_digits", "log_questions"], num_outputs=3, axis=0),
        node("Sqrt", ["minus_digits"], ["nan_or_zero"]),
        *_work_nodes(),
        node("ReduceSum", ["counts"], ["total"], keepdims=1),
        node("Size", ["buckets"], ["distinct"]),
        node("Size", ["token_ids"], ["tokens"]),
        node("Add", ["distinct", "tokens"], ["sizes_long"]),
        node("Cast", ["sizes_long"], ["sizes"], to=TensorProto.FLOAT),
        node("Add", ["total", "sizes"], ["volume"]),
        node("Mul", ["volume", "small"], ["volume_part"]),
        node("Sum", ["line", "volume_part", "nan_or_zero", "worked", "bias"], ["logit"]),
        node("Sigmoid", ["logit"], ["fast_vector"]),
        node("Squeeze", ["fast_vector", "axis"], ["fast"]),
        node("Mul", ["fast", "shrink"], ["full"]),
        node("Cast", ["threshold"], ["threshold_float"], to=TensorProto.FLOAT),
        node("Sub", ["fast", "threshold_float"], ["gap"]),
        node("Abs", ["gap"], ["distance"]),
        node("Less", ["distance", "band"], ["in_band"]),
        node("Not", ["early_exit"], ["never_exit"]),
        node("Or", ["in_band", "never_exit"], ["is_full"]),
        node("Where", ["is_full", "full", "fast"], ["p_match"]),
    ]
    outputs = [_value("p_match", TensorProto.FLOAT, []), _value("is_full", TensorProto.BOOL, [])]
    if plus_is_unfamiliar:
        nodes += [
            node("Gather", ["structural", "math_index"], ["math_share"]),
            node("Greater", ["math_share", "zero"], ["is_out_of_distribution"]),
        ]
        outputs.append(_value("is_out_of_distribution", TensorProto.BOOL, []))
    constants = {
        "math_index": np.int64(_index("math_share")),
        "weights": weights,
        "small": np.float32(-0.002),
        "bias": np.array([bias], np.float32),
        "axis": np.array([0], np.int64),
        "shrink": np.float32(0.98),
        "band": np.float32(EXIT_BAND),
        "half": np.float32(0.5),
        "one": np.float32(1.0),
        "zero": np.float32(0.0),
        "work": np.float32(work_per_question),
        "true": np.ones((), np.bool_),
        "matrix": np.eye(192, dtype=np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "tiny",
        [
            _value("token_ids", TensorProto.INT64, ["n"]),
            _value("buckets", TensorProto.INT64, ["k"]),
            _value("counts", TensorProto.FLOAT, ["k"]),
            _value("structural", TensorProto.FLOAT, [len(STRUCTURAL)]),
            _value("threshold", TensorProto.DOUBLE, []),
            _value("early_exit", TensorProto.BOOL, []),
        ],
        outputs,
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    checker.check_model(model, full_check=True)
    return model.SerializeToString()


def _work_nodes() -> list:
    """Multiply a matrix `work_per_question * question marks` times and add nothing to the logit."""
    node = helper.make_node
    body = helper.make_graph(
        [
            node("Identity", ["going"], ["going_on"]),
            node("MatMul", ["state", "matrix"], ["next_state"]),
        ],
        "body",
        [
            _value("turn", TensorProto.INT64, []),
            _value("going", TensorProto.BOOL, []),
            _value("state", TensorProto.FLOAT, [192, 192]),
        ],
        [_value("going_on", TensorProto.BOOL, []), _value("next_state", TensorProto.FLOAT, [192, 192])],
    )
    return [
        node("Exp", ["log_questions"], ["one_plus_questions"]),
        node("Sub", ["one_plus_questions", "one"], ["questions"]),
        node("Mul", ["questions", "work"], ["turns_exact"]),
        node("Add", ["turns_exact", "half"], ["turns_rounded"]),
        node("Cast", ["turns_rounded"], ["turns"], to=TensorProto.INT64),
        node("Loop", ["turns", "true", "matrix"], ["final_state"], body=body),
        node("ReduceMax", ["final_state"], ["largest"], keepdims=0),
        node("Mul", ["largest", "zero"], ["worked"]),
    ]


def _golden(model: RouterModel, rungs: RungHeads | None = None) -> bytes:
    lines = []
    for text in GOLDEN_PROMPTS:
        prompt = prompt_from_text(text)
        fast, full = (model.predict(prompt, GOLDEN_THRESHOLD, early_exit=early) for early in (True, False))
        golden = Golden(text, fast.p_match, full.p_match, fast.is_out_of_distribution)
        if rungs is not None:
            golden = msgspec.structs.replace(golden, p_rungs=rungs.p_rungs(model.featurize(prompt)))
        lines.append(msgspec.json.encode(golden))
    return b"\n".join(lines) + b"\n"


def _policy(name: str, kind: str, target: float, threshold: float) -> Policy:
    return Policy(
        name=name,
        kind=kind,
        target=target,
        threshold=threshold,
        is_met=True,
        share_weak=0.5,
        quality_kept=0.99,
        share_worse=target / 2,
        share_worse_bound=target,
        delta=0.1,
    )


def _index(name: str) -> int:
    return list(STRUCTURAL).index(name)


def _value(name: str, kind: int, shape: list) -> object:
    return helper.make_tensor_value_info(name, kind, shape)
