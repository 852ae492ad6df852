"""Ways to ruin the folder of a good tiny bundle: damage that digests show, and hostile files with digests that fit."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, load_model, save_model

from tests.builders import tiny_manifest, write_manifest, write_raw_manifest
from turnout.serving.bundles.bundle import GOLDEN, GRAPH, TOKENIZER
from turnout.serving.bundles.manifest import MANIFEST

Ruin = Callable[[Path], None]
OUTSIDE = "outside.data"
"""Name of the file beside the bundle's folder that external data would lead to."""


def signed(folder: Path) -> Path:
    """Write a manifest whose digests fit what is now in the folder."""
    write_manifest(folder, tiny_manifest(folder))
    return folder


def flip(seed: int) -> Ruin:
    """Return what flips one bit of one file; the digests stay as they were."""

    def ruin(folder: Path) -> None:
        dice = random.Random(seed)
        path = folder / dice.choice((GRAPH, TOKENIZER, GOLDEN, MANIFEST))
        raw = bytearray(path.read_bytes())
        raw[dice.randrange(len(raw))] ^= 1 << dice.randrange(8)
        path.write_bytes(raw)

    return ruin


def truncate(seed: int) -> Ruin:
    """Return what cuts one file short."""

    def ruin(folder: Path) -> None:
        dice = random.Random(seed)
        path = folder / dice.choice((GRAPH, TOKENIZER, GOLDEN, MANIFEST))
        raw = path.read_bytes()
        path.write_bytes(raw[: dice.randrange(len(raw.strip()))])

    return ruin


def remove(name: str) -> Ruin:
    """Return what takes a file away."""
    return lambda folder: (folder / name).unlink()


def _external(location: Callable[[Path], str], place: Callable[[Path, Path], None]) -> Ruin:
    """Return what moves an initializer of the graph into an external file."""

    def ruin(folder: Path) -> None:
        outside = folder.parent / OUTSIDE
        outside.write_bytes(np.eye(192, dtype=np.float32).tobytes())
        model = load_model(folder / GRAPH)
        (matrix,) = (one for one in model.graph.initializer if one.name == "matrix")
        matrix.ClearField("raw_data")
        matrix.data_location = TensorProto.EXTERNAL
        matrix.external_data.add(key="location", value=location(outside))
        save_model(model, folder / GRAPH)
        place(folder, outside)
        signed(folder)

    return ruin


def _nowhere(folder: Path, outside: Path) -> None:
    del folder, outside


def huge_tensor(folder: Path) -> None:
    """Let the graph make a tensor of 10^18 elements on its way to p_match."""
    model = load_model(folder / GRAPH)
    (output,) = (node for node in model.graph.node if "p_match" in node.output)
    output.output[:] = ["small_p_match"]
    model.graph.initializer.append(helper.make_tensor("huge_shape", TensorProto.INT64, [2], [10**9, 10**9]))
    model.graph.node.extend(
        [
            helper.make_node("ConstantOfShape", ["huge_shape"], ["huge"]),
            helper.make_node("ReduceMax", ["huge"], ["zero_of_huge"], keepdims=0),
            helper.make_node("Add", ["small_p_match", "zero_of_huge"], ["p_match"]),
        ]
    )
    (folder / GRAPH).write_bytes(model.SerializeToString())
    signed(folder)


def huge_claim(folder: Path) -> None:
    """Let an initializer claim 10^9 elements that its bytes don't hold."""
    model = load_model(folder / GRAPH)
    (matrix,) = (one for one in model.graph.initializer if one.name == "matrix")
    matrix.dims[:] = [10**9]
    (folder / GRAPH).write_bytes(model.SerializeToString())
    signed(folder)


def _wrote(name: str, raw: bytes) -> Ruin:
    def ruin(folder: Path) -> None:
        (folder / name).write_bytes(raw)
        signed(folder)

    return ruin


def huge_file(folder: Path) -> None:
    """Grow the tokenizer to 2 GiB of holes; the manifest says so."""
    with (folder / TOKENIZER).open("r+b") as file:
        file.truncate(2 << 30)
    raw = (folder / MANIFEST).read_bytes()
    write_raw_manifest(folder, raw)


def huge_manifest(folder: Path) -> None:
    """Write a manifest of 100 MB."""
    write_raw_manifest(folder, b'{"format_version":1,"name":"' + b"x" * 100_000_000 + b'"}')


def deep_manifest(folder: Path) -> None:
    """Write a manifest of 100,000 lists in each other."""
    write_raw_manifest(folder, b'{"format_version":1,"files":' + b"[" * 100_000 + b"]" * 100_000 + b"}")


class _Opens:
    """Unpickled, it writes a file; nothing must unpickle it."""

    def __reduce__(self) -> tuple[object, ...]:
        return open, (OUTSIDE, "w")


HOSTILE: dict[str, Ruin] = {
    "external data ..": _external(lambda outside: f"../{outside.name}", _nowhere),
    "external data, absolute": _external(str, _nowhere),
    "external data, symbolic link": _external(
        lambda _: "weights.data", lambda folder, outside: (folder / "weights.data").symlink_to(outside)
    ),
    "external data, hard link": _external(
        lambda _: "weights.data", lambda folder, outside: (folder / "weights.data").hardlink_to(outside)
    ),
    "tensor of 10^18 elements": huge_tensor,
    "claim of 10^9 elements": huge_claim,
    "pickle for a graph": _wrote(GRAPH, pickle.dumps(_Opens())),
    "pickle for a tokenizer": _wrote(TOKENIZER, pickle.dumps(_Opens())),
    "file of 2 GiB": huge_file,
    "manifest of 100 MB": huge_manifest,
    "manifest of 100,000 levels": deep_manifest,
}
"""What has digests that fit, by name."""

DAMAGES: dict[str, Ruin] = {
    **{f"bit flip {seed}": flip(seed) for seed in range(12)},
    **{f"truncation {seed}": truncate(seed) for seed in range(6)},
    **{f"{name} missing": remove(name) for name in (GRAPH, TOKENIZER, GOLDEN, MANIFEST)},
}
"""What the digests show, by name."""
