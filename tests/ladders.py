"""Ladders of any length, made from one that was trained: rungs between are copies of its first one, moved a little."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from msgspec import UNSET
from onnx import numpy_helper

from tests.builders import digest_of, write_manifest
from turnout.serving.bundles.bundle import GOLDEN, RUNGS, read_manifest
from turnout.serving.bundles.ladder import Rung
from turnout.serving.bundles.manifest import FORMAT_VERSION, Golden, Manifest
from turnout.serving.bundles.policy import Policy
from turnout.serving.router.features import Featurizer
from turnout.serving.router.prompt import prompt_from_text
from turnout.serving.router.rungs import RungHeads

BY_RUNG = {"lexical": 1, "structural_weights": 1, "slope": 0, "start": 0}
"""Initialisers of `rungs.onnx` that have a column for each rung, and where."""
STEP = np.float32(0.3)
"""Log-odds by which each copy is above the one before."""


def ladder_of(source: Path, folder: Path, between: int) -> Path:
    """Write the ladder of `source` with so many rungs between, a pair for none; return the folder.

    Args:
        source: a bundle of three rungs, as `train` writes it.
        folder: where to; must not be there.
        between: 0 or more.
    """
    shutil.copytree(source, folder)
    manifest = read_manifest(folder)
    ladder, files = manifest.ladder, dict(manifest.files)
    if between:
        graph = with_rungs((folder / RUNGS).read_bytes(), between)
        (folder / RUNGS).write_bytes(graph)
        files[RUNGS] = digest_of(folder / RUNGS)
        heads = RungHeads(graph)
    else:
        (folder / RUNGS).unlink()
        del files[RUNGS]
        heads = None
    _write_golden(folder, manifest, heads)
    files[GOLDEN] = digest_of(folder / GOLDEN)
    middle = [Rung(f"{ladder[1].name}-{place}", ladder[1].model) for place in range(between)]
    risk = manifest.risk
    if risk is not None and risk.t_rungs is not UNSET:
        t_rungs = tuple(one[:1] * between for one in risk.t_rungs) if between else UNSET
        risk = msgspec.structs.replace(risk, t_rungs=t_rungs)
    changed = msgspec.structs.replace(
        manifest,
        format_version=manifest.format_version if between else FORMAT_VERSION,
        rungs=[ladder[0], *middle, ladder[-1]] if between else UNSET,
        policies=[_over(policy, between) for policy in manifest.policies],
        risk=risk,
        files=files,
    )
    write_manifest(folder, changed)
    return folder


def with_rungs(graph: bytes, n_rungs: int, **changes: Any) -> bytes:
    """Return the graph with so many rungs, each the first one moved by `STEP`; `changes` replace initialisers."""
    model = onnx.load_from_string(graph)
    for one in model.graph.initializer:
        value = numpy_helper.to_array(one)
        if one.name in BY_RUNG:
            value = np.repeat(value.take([0], BY_RUNG[one.name]), n_rungs, BY_RUNG[one.name])
        if one.name == "start":
            value = value + STEP * np.arange(n_rungs, dtype=np.float32)
        value = changes[one.name](value) if one.name in changes else value
        one.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), one.name))
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = n_rungs
    return bytes(model.SerializeToString())


def _over(policy: Policy, between: int) -> Policy:
    def wide(t_rungs: Any) -> Any:
        return UNSET if not between or t_rungs is UNSET else t_rungs[:1] * between

    checked = policy.checked
    if checked is not None:
        checked = msgspec.structs.replace(checked, t_rungs=wide(checked.t_rungs))
    return msgspec.structs.replace(policy, t_rungs=wide(policy.t_rungs), checked=checked)


def _write_golden(folder: Path, manifest: Manifest, heads: RungHeads | None) -> None:
    featurize = Featurizer(
        (folder / "tokenizer.json").read_bytes(), manifest.encoder.max_tokens, manifest.harness_rules
    )
    path, lines = folder / GOLDEN, []
    for line in path.read_bytes().splitlines():
        one = msgspec.json.decode(line, type=Golden)
        p_rungs = UNSET if heads is None else heads.p_rungs(featurize(prompt_from_text(one.prompt)))
        lines.append(msgspec.json.encode(msgspec.structs.replace(one, p_rungs=p_rungs)) + b"\n")
    path.write_bytes(b"".join(lines))
