"""`turnout encoder export`: a sentence-transformers model as an ONNX graph of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter, validators

from turnout.serving.cli.options import AsJson, AtLeastOne, say
from turnout.training.encoders.encoders import export_encoder


def export(
    model: str,
    /,
    *,
    out: Path,
    layer: AtLeastOne = 3,
    max_tokens: Annotated[int, Parameter(validator=validators.Number(gte=8, lte=512))] = 128,
    name: str = "",
    base: str = "",
    license_name: Annotated[str, Parameter(name="--license")] = "unknown",
    as_json: AsJson = False,
) -> None:
    """Export the first layers of a sentence-transformers model as int8 ONNX; needs the extra `encoders`.

    Args:
        model: Name on the hub, or a local folder, of a sentence-transformers model.
        out: Folder to write.
        layer: Transformer layers to keep.
        max_tokens: Most word pieces it will read.
        name: Name of the encoder; without it the folder's.
        base: What to record as its origin; without it the model's name.
        license_name: Licence of the weights, as SPDX.
    """
    card = export_encoder(
        model,
        out,
        layer=layer,
        max_tokens=max_tokens,
        name=name or out.name,
        base_model=base or model,
        base_license=license_name,
    )
    line = f"{out}: {card.name}, {card.dim} dimensions, layer {card.layer}, sha256 {card.sha256[:16]}"
    result = {"out": out, "name": card.name, "dim": card.dim, "layer": card.layer, "sha256": card.sha256}
    say(line, result, as_json=as_json)
