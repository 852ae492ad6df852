"""R17 to R20: files of a bundle that are damaged, hostile, or damaged under a running server; and parity."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import grpc

from tests.builders import tiny_bundle
from tests.hostile import HOSTILE
from tests.scorecard import load
from tests.scorecard.calibration import mixed_texts
from tests.scorecard.conditions import Conditions
from tests.scorecard.lines import Line, all_of, at_most, none_of
from tests.scorecard.loading import load_apart
from tests.scorecard.service import service
from turnout.serving.bundles.bundle import load_bundle, read_manifest
from turnout.serving.bundles.manifest import MANIFEST, MANIFEST_DIGEST
from turnout.serving.errors import BundleRefused
from turnout.serving.pb import router_pb2 as pb
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.wire.route import ROUTE_BATCH_METHOD, ROUTE_METHOD


def damaged(conditions: Conditions) -> Iterator[Line]:
    """R17: bit flips, truncations, missing files and files of another version; the digests must show each."""
    folder = shutil.copytree(conditions.folder, conditions.scratch / "r17")
    names = [MANIFEST, *sorted(read_manifest(folder).files)]
    dice = random.Random(17)
    n_flips, n_cuts = conditions.sized(fast=200, full=2_000), conditions.sized(fast=30, full=200)
    flips = sum(_flipped_is_refused(folder, dice.choice(names), dice) for _ in range(n_flips))
    yield all_of("R17", "bit flips refused by digest, the file named", flips, n_flips)
    cuts = sum(_cut_is_refused(folder, dice.choice(names), dice) for _ in range(n_cuts))
    yield all_of("R17", "truncations refused, the file named", cuts, n_cuts)
    gone = sum(_refused_with(folder, name, None) for name in (*names, MANIFEST_DIGEST))
    yield all_of("R17", "missing files refused, the file named", gone, len(names) + 1)
    other = tiny_bundle(conditions.scratch / "r17-other")
    swapped = [name for name in names if (other / name).exists()]
    refused = sum(_refused_with(folder, name, (other / name).read_bytes()) for name in swapped)
    yield all_of("R17", "files of another version refused, the file named", refused, len(swapped))


def _flipped_is_refused(folder: Path, name: str, dice: random.Random) -> bool:
    raw = bytearray((folder / name).read_bytes())
    raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
    return _refused_with(folder, name, bytes(raw))


def _cut_is_refused(folder: Path, name: str, dice: random.Random) -> bool:
    raw = (folder / name).read_bytes()
    return _refused_with(folder, name, raw[: dice.randrange(len(raw))])


def _refused_with(folder: Path, name: str, raw: bytes | None) -> bool:
    """Whether the bundle is refused by its digests with these bytes for a file, or without it; restores the file."""
    path = folder / name
    kept = path.read_bytes()
    if raw is None:
        path.unlink()
    else:
        path.write_bytes(raw)
    try:
        load_bundle(folder)
    except BundleRefused as error:
        said = str(error)
        return name in said and ("expected" in said or raw is None)
    finally:
        path.write_bytes(kept)
    return False


def hostile(conditions: Conditions) -> Iterator[Line]:
    """R18: bundles whose digests fit what should not be served."""
    done = {}
    for n, (name, ruin) in enumerate(HOSTILE.items()):
        folder = tiny_bundle(conditions.scratch / "r18" / str(n) / "bundle")
        ruin(folder)
        done[name] = load_apart(folder)
    refused = sum(bool(one.refusal) for one in done.values())
    yield all_of("R18", "hostile bundles with fitting digests refused", refused, len(done))
    opened = sum(len(one.opened_elsewhere) for one in done.values())
    yield none_of("R18", "files opened outside the bundle", opened, len(done))
    # The tensor of 10^18 elements is refused by its allocation, the huge files by their size.
    yield at_most(
        "R18", "peak memory above that before loading, MiB", max(one.grown_mib for one in done.values()), 64, len(done)
    )


def damaged_in_place(conditions: Conditions) -> Iterator[Line]:
    """R19: each file truncated, overwritten and deleted under load."""
    folder = shutil.copytree(conditions.folder, conditions.scratch / "r19")
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    with service(folder, conditions.scratch) as served:
        before = _answers(served.address, mixed_texts()[:60])
        running = load.start(conditions.plan(served, conditions.sized(fast=6.0, full=20.0), callers=4))
        for path in files:
            raw = path.read_bytes()
            path.write_bytes(raw[: len(raw) // 2])
            time.sleep(0.05)
            path.write_bytes(bytes(len(raw)))
            time.sleep(0.05)
            path.unlink()
        done = load.finish(running)
        changed = sum(a != b for a, b in zip(before, _answers(served.address, mixed_texts()[:60]), strict=True))
    yield none_of("R19", "calls that failed while the files were damaged", done.sent - done.ok, done.sent)
    yield none_of("R19", "answers that changed with the files", changed, len(before))


def parity(conditions: Conditions) -> Iterator[Line]:
    """R20: the model in process, Route, RouteBatch, and Route of a server that has reloaded."""
    texts = (mixed_texts() * 2)[: conditions.sized(fast=100, full=500)]
    bundle = load_bundle(conditions.folder)
    threshold = bundle.manifest.policy("").threshold
    alone = [bundle.model.predict(prompt_from_text(text), threshold) for text in texts]
    tiers = [pb.TIER_WEAK if one.goes_weak(threshold) else pb.TIER_STRONG for one in alone]
    with service(conditions.folder, conditions.scratch, early_exit=True) as served:
        routed = _answers(served.address, texts)
        batched = _batched(served.address, texts)
    for name, answers in (("Route", routed), ("RouteBatch", batched)):
        apart = max(abs(answer[0] - one.p_match) for answer, one in zip(answers, alone, strict=True))
        yield at_most("R20", f"largest difference of p_match, {name} and in process", apart, 1e-5, len(texts))
        changed = sum(answer[1] != tier for answer, tier in zip(answers, tiers, strict=True))
        yield none_of("R20", f"routes of {name} other than in process", changed, len(texts))


def _answers(address: str, texts: list[str]) -> list[tuple[float, int]]:
    """Return `p_match` and tier that Route gives each text."""
    with grpc.insecure_channel(address) as channel:
        route = channel.unary_unary(ROUTE_METHOD, pb.RouteRequest.SerializeToString, pb.RouteResponse.FromString)
        replies = [route(pb.RouteRequest(text=text), timeout=10) for text in texts]
    return [(reply.p_match, reply.tier) for reply in replies]


def _batched(address: str, texts: list[str]) -> list[tuple[float, int]]:
    """Return `p_match` and tier that RouteBatch gives each text, 50 at a time."""
    answers = []
    with grpc.insecure_channel(address) as channel:
        route = channel.unary_unary(
            ROUTE_BATCH_METHOD, pb.RouteBatchRequest.SerializeToString, pb.RouteBatchResponse.FromString
        )
        for start in range(0, len(texts), 50):
            requests = [pb.RouteRequest(text=text) for text in texts[start : start + 50]]
            results = route(pb.RouteBatchRequest(requests=requests), timeout=30).results
            answers += [(result.response.p_match, result.response.tier) for result in results]
    return answers
