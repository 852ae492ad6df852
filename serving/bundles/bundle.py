"""The bundle: a folder with all that serving needs, and the checks it passes before it is served.

    router.onnx  tokenizer.json  golden.jsonl  card.md  seen_groups.bin  report/  manifest.json  manifest.sha256
    manifest.sig, dense_blocks.npz (optional)

Loading reads each file once, checks the SHA-256 of those bytes, and builds the session from those
same bytes: nothing that happens to the folder afterwards can reach a loaded bundle. (ONNX has no
checksum: of 300 single-bit flips, 92 loaded and gave another answer.)
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from msgspec import UNSET

from turnout.serving.bundles.baseline import EVALUATION, Baseline, read_baseline, read_tasks, unseen_in
from turnout.serving.bundles.manifest import (
    GOLDEN_THRESHOLD,
    LADDER_FORMAT_VERSION,
    MANIFEST,
    MANIFEST_DIGEST,
    MANIFEST_SIGNATURE,
    FileDigest,
    Golden,
    Manifest,
)
from turnout.serving.bundles.second_look import CHECK_TOLERANCE, GoldenCheck
from turnout.serving.bundles.signing import is_signed_by, signature_of
from turnout.serving.errors import BundleRefused, ModelFault
from turnout.serving.files import write_whole
from turnout.serving.router.answer import Answer
from turnout.serving.router.checker import CheckerModel
from turnout.serving.router.features import SCHEMA_VERSION
from turnout.serving.router.graph_parts import fast_graph
from turnout.serving.router.harness import HARNESS_RULES, LATEST_HARNESS_RULES
from turnout.serving.router.model import FastHead, RouterModel
from turnout.serving.router.native.opening import ngrams_of, open_native
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.router.rungs import RUNG_TOLERANCE, RungHeads

RUNGS = "rungs.onnx"
"""The heads of the rungs between, of a ladder of more than two; absent from a pair."""
CHECKER, GOLDEN_CHECKS = "checker.onnx", "golden_checks.jsonl"
"""The second look, and what it must say of answers of the project's own; both absent where there is none."""
GRAPH, TOKENIZER, GOLDEN, CARD, SEEN_GROUPS = (
    "router.onnx",
    "tokenizer.json",
    "golden.jsonl",
    "card.md",
    "seen_groups.bin",
)
REQUIRED_FILES = (GRAPH, TOKENIZER, GOLDEN)

MAX_MANIFEST_BYTES = 4 << 20
MAX_FILE_BYTES = 512 << 20


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that passed its checks, in memory.

    Attributes:
        baseline: the traffic it was measured on; None where it does not say.
        checker: its second look; None where it has none.
        fast_head: the first stage of the model by itself; None where the graph is not made of two.
        rung_heads: of a ladder, what says p of the rungs between; None for a pair.
        tasks: labelled rows of each task that its evaluation names.
    """

    manifest: Manifest
    model: RouterModel
    golden: tuple[Golden, ...]
    folder: Path
    baseline: Baseline | None = None
    checker: CheckerModel | None = None
    fast_head: FastHead | None = None
    rung_heads: RungHeads | None = None
    tasks: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_native(self) -> bool:
        """Whether the first stage answers in C, and of a ladder the heads of its rungs too."""
        has_rungs = self.rung_heads is None or self.rung_heads.is_native
        return has_rungs and self.fast_head is not None and self.fast_head.native is not None

    @property
    def unseen(self) -> tuple[str, ...]:
        """What its training never had, of `turnout.serving.router.unseen`; requests with it are out of distribution."""
        return unseen_in(self.baseline)


def load_bundle(folder: Path, trusted_key: Path | None = None, *, native: bool = False) -> Bundle:
    """Read, check and open a bundle.

    Args:
        folder: where it lies.
        native: whether the first stage, and of a ladder its rungs, are to answer in C, where that is there and says
            what their graphs say (`FastHead.path` and `RungHeads.path` tell); the 0.1 s that it takes to find out pay
            from a thousand prompts on.
        trusted_key: PEM file with the Ed25519 public key that must have signed the manifest, and with it
            the digest of every file; None asks for no signature.

    Raises:
        BundleRefused: a file is missing, damaged or unlisted, the signature is missing or another's, the
            format is newer than this code, the graph does not load, or a golden prompt is missed. The message
            names the file.
        KeyRefused: `trusted_key` holds no such key.
    """
    manifest = read_manifest(folder, trusted_key)
    contents = {name: _read_checked(folder, name, digest) for name, digest in manifest.files.items()}
    for name in REQUIRED_FILES:
        if name not in contents:
            raise BundleRefused(
                f"{folder / MANIFEST}: lists no {name}; the bundle is incomplete, train or copy it again"
            )
    baseline = read_baseline(contents.get(EVALUATION))
    reads = manifest.encoder.max_tokens, manifest.harness_rules
    try:
        model = RouterModel(contents[GRAPH], contents[TOKENIZER], *reads, unseen_in(baseline))
        first_stage = fast_graph(contents[GRAPH])
        fast_head = None if first_stage is None else FastHead(first_stage, unseen_in(baseline))
    except Exception as error:  # onnxruntime and tokenizers raise many types, all of which mean the same here
        raise BundleRefused(f"{folder}: {GRAPH} or {TOKENIZER} does not load: {type(error).__name__}") from error
    golden = _decode_golden(folder, contents[GOLDEN])
    _check_golden(folder, manifest, model, golden)
    rung_heads = _open_rungs(folder, manifest, contents, model, golden)
    if native and fast_head is not None and first_stage is not None:
        texts = [one.prompt for one in golden]
        open_native(fast_head, first_stage, model.featurize, texts, rung_heads, contents.get(RUNGS, b""))
    checker = _open_checker(folder, contents, model, fast_head) if CHECKER in contents else None
    tasks = read_tasks(contents.get(EVALUATION))
    return Bundle(manifest, model, golden, folder, baseline, checker, fast_head, rung_heads, tasks)


def _open_checker(
    folder: Path, contents: dict[str, bytes], model: RouterModel, fast_head: FastHead | None
) -> CheckerModel:
    """Open the second look and hold it against its golden answers."""
    if GOLDEN_CHECKS not in contents:
        raise BundleRefused(f"{folder / MANIFEST}: lists {CHECKER} and no {GOLDEN_CHECKS}; train or copy it again")
    try:
        checker = CheckerModel(contents[CHECKER], ngrams_of(model.featurize, fast_head))
        checks = [msgspec.json.decode(line, type=GoldenCheck) for line in contents[GOLDEN_CHECKS].splitlines()]
        missed = max((_missed_by(checker, one) for one in checks), default=0.0)
    except Exception as error:  # onnxruntime and msgspec raise many types, all of which mean the same here
        name = f"{CHECKER} or {GOLDEN_CHECKS}"
        raise BundleRefused(f"{folder}: {name} does not load: {type(error).__name__}") from error
    if not missed <= CHECK_TOLERANCE:
        raise BundleRefused(f"{folder / GOLDEN_CHECKS}: a golden answer is missed by {missed:.2g}; copy it again")
    return checker


def _open_rungs(
    folder: Path, manifest: Manifest, contents: dict[str, bytes], model: RouterModel, golden: Sequence[Golden]
) -> RungHeads | None:
    """Open the heads of the rungs between and hold them against the golden prompts."""
    n = len(manifest.ladder) - 2
    if n == 0:
        return None
    if n < 0 or RUNGS not in contents:
        raise BundleRefused(
            f"{folder / MANIFEST}: {n + 2} rungs and no {RUNGS}; the bundle is incomplete, copy it again"
        )
    try:
        heads = RungHeads(contents[RUNGS])
        said = [heads.p_rungs(model.featurize(prompt_from_text(one.prompt))) for one in golden]
    except Exception as error:  # onnxruntime raises many types, all of which mean the same here
        raise BundleRefused(f"{folder}: {RUNGS} does not load: {type(error).__name__}") from error
    for one, found in zip(golden, said, strict=True):
        expected = () if one.p_rungs is UNSET else one.p_rungs
        if len(found) != n or len(expected) != n or max(map(abs, map(float.__sub__, found, expected))) > RUNG_TOLERANCE:
            raise BundleRefused(f"{folder / GOLDEN}: {RUNGS} misses a golden prompt; copy the bundle again")
    return heads


def _missed_by(checker: CheckerModel, golden: GoldenCheck) -> float:
    asked = golden.prompt, Answer(golden.answer), golden.signals, golden.first_log_odds
    missed = abs(checker.check(*asked, is_out_of_distribution=False).p_match - golden.p_checker)
    if golden.p_signals is None:
        return missed
    return max(missed, abs(checker.check(*asked, is_out_of_distribution=True).p_match - golden.p_signals))


def read_file_of(bundle: Bundle, name: str) -> bytes:
    """Return one file of a loaded bundle, as it was when it was loaded; raises `BundleRefused` when it no longer is."""
    return _read_checked(bundle.folder, name, bundle.manifest.files[name])


def sign_bundle(folder: Path, key: Path) -> Path:
    """Sign the manifest with the private key in the file `key`, in place of an older signature.

    Return the path of the signature. Raises `KeyRefused`, and `BundleRefused` when the manifest is damaged.
    """
    raw = _read_manifest_bytes(folder)
    path = folder / MANIFEST_SIGNATURE
    write_whole(path, signature_of(raw, key))
    return path


def read_manifest(folder: Path, trusted_key: Path | None = None) -> Manifest:
    """Read `manifest.json` against `manifest.sha256` and the trusted key; raises as `load_bundle` does."""
    raw = _read_manifest_bytes(folder)
    if trusted_key is not None:
        _check_signature(folder, raw, trusted_key)
    try:
        version = msgspec.json.decode(raw, type=_FormatOnly).format_version
        if version > LADDER_FORMAT_VERSION:
            raise BundleRefused(
                f"{folder / MANIFEST}: format {version}, this Turnout reads up to {LADDER_FORMAT_VERSION}; "
                "upgrade Turnout"
            )
        manifest = msgspec.json.decode(raw, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BundleRefused(f"{folder / MANIFEST}: not a manifest: {error}") from error
    if manifest.feature_schema != SCHEMA_VERSION:
        raise BundleRefused(
            f"{folder / MANIFEST}: feature schema {manifest.feature_schema}, "
            f"this Turnout computes {SCHEMA_VERSION}; retrain"
        )
    if manifest.harness_rules not in HARNESS_RULES:
        raise BundleRefused(
            f"{folder / MANIFEST}: harness rules of version {manifest.harness_rules}, "
            f"this Turnout has 0 to {LATEST_HARNESS_RULES}; upgrade Turnout"
        )
    return manifest


def _read_manifest_bytes(folder: Path) -> bytes:
    raw = _read_file(folder, MANIFEST, MAX_MANIFEST_BYTES)
    expected = _read_file(folder, MANIFEST_DIGEST, 256).decode("ascii", "replace").strip()
    _check_digest(folder / MANIFEST, raw, expected)
    return raw


def _check_signature(folder: Path, raw: bytes, trusted_key: Path) -> None:
    if not is_signed_by(raw, _read_file(folder, MANIFEST_SIGNATURE, 256), trusted_key):
        raise BundleRefused(
            f"{folder / MANIFEST_SIGNATURE}: is not the signature of {MANIFEST} by the key in {trusted_key}; "
            f"use a bundle of that key's owner, or sign this one: turnout bundle sign"
        )


class _FormatOnly(msgspec.Struct):
    format_version: int


def _read_checked(folder: Path, name: str, digest: FileDigest) -> bytes:
    raw = _read_file(folder, name, MAX_FILE_BYTES)
    if len(raw) != digest.size:
        raise BundleRefused(f"{folder / name}: expected {digest.size} bytes, got {len(raw)}; copy the bundle again")
    _check_digest(folder / name, raw, digest.sha256)
    return raw


def _read_file(folder: Path, name: str, max_bytes: int) -> bytes:
    """Read one file below `folder`; no link, nothing outside, nothing larger than `max_bytes`."""
    parts = name.split("/")
    if name.startswith("/") or any(part in ("", ".", "..") for part in parts) or "\\" in name or "\0" in name:
        raise BundleRefused(f"{folder / MANIFEST}: file name {name!r} leads outside the bundle")
    path = folder / name
    if any((folder / Path(*parts[: i + 1])).is_symlink() for i in range(len(parts))):
        raise BundleRefused(f"{path}: is a symbolic link; bundles hold plain files only")
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            stat = os.fstat(handle)
            if stat.st_size > max_bytes:
                raise BundleRefused(f"{path}: {stat.st_size} bytes, at most {max_bytes} are allowed")
            return file.read(max_bytes + 1)
    except OSError as error:
        raise BundleRefused(f"{path}: cannot be read: {error.strerror}") from error


def _check_digest(path: Path, raw: bytes, expected: str) -> None:
    got = hashlib.sha256(raw).hexdigest()
    if got != expected:
        raise BundleRefused(f"{path}: SHA-256 expected {expected[:64]}, got {got}; the file is damaged, copy it again")


def _decode_golden(folder: Path, raw: bytes) -> tuple[Golden, ...]:
    try:
        golden = tuple(msgspec.json.decode(line, type=Golden) for line in raw.splitlines() if line.strip())
    except msgspec.MsgspecError as error:
        raise BundleRefused(f"{folder / GOLDEN}: not golden prompts: {error}") from error
    if not golden:
        raise BundleRefused(f"{folder / GOLDEN}: holds no golden prompt")
    return golden


def _check_golden(folder: Path, manifest: Manifest, model: RouterModel, golden: tuple[Golden, ...]) -> None:
    for index, item in enumerate(golden):
        prompt = prompt_from_text(item.prompt)
        for early_exit, expected in ((True, item.p_match), (False, item.p_match_full)):
            try:
                said = model.predict(prompt, GOLDEN_THRESHOLD, early_exit=early_exit)
            except ModelFault as error:
                raise BundleRefused(f"{folder / GOLDEN}: line {index + 1}: {error}") from error
            except Exception as error:  # onnxruntime finds out here that inputs or sizes are impossible
                raise BundleRefused(f"{folder}: {GRAPH} loads and does not run: {type(error).__name__}") from error
            got = said.p_match
            if said.is_out_of_distribution is not item.is_out_of_distribution:
                raise BundleRefused(
                    f"{folder / GOLDEN}: line {index + 1}: out of distribution expected "
                    f"{item.is_out_of_distribution}, got {said.is_out_of_distribution}; copy the bundle again"
                )
            if abs(got - expected) > manifest.golden_tolerance:
                raise BundleRefused(
                    f"{folder / GOLDEN}: line {index + 1}: p_match expected {expected:.6f}, got {got:.6f}, "
                    f"tolerance {manifest.golden_tolerance}; this machine or onnxruntime computes another answer"
                )
