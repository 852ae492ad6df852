"""Encoders: read one for training, or export one from a sentence-transformers model.

An encoder is a folder: `encoder.onnx` (token_ids (n,) int64 -> dense (dim,) float32, mean-pooled),
`tokenizer.json`, and `encoder.json` that says what it is. Reading needs no torch; exporting does.

The export keeps the first layers only and quantises weights to signed int8, per channel, in seven
bits. Measured on one thread against fp32 (200 prompts of the reference rows): per channel raises
the cosine from 0.969 to 0.997 at the same speed; seven bits (`reduce_range`) cost 0.0006 of it and
no time, and keep CPUs without VNNI from saturating, so that they give the same integers.
"""

from __future__ import annotations

import hashlib
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from turnout.serving.bundles.manifest import Encoder
from turnout.serving.files import write_whole
from turnout.serving.router.model import session_options
from turnout.training.errors import DataRefused, MissingExtra

GRAPH, TOKENIZER, CARD = "encoder.onnx", "tokenizer.json", "encoder.json"
DEFAULT_ENCODER = "minilm-l3-int8"


class EncoderCard(msgspec.Struct, frozen=True):
    """What `encoder.json` holds."""

    name: str
    base_model: str
    base_license: str
    layer: int
    dim: int
    max_tokens: int
    quantisation: str
    sha256: str


@dataclass(frozen=True)
class EncoderModel:
    """An encoder in memory: its card, its graph and tokenizer as bytes, and a session on the graph."""

    card: EncoderCard
    graph: bytes
    tokenizer_json: bytes

    @property
    def manifest_entry(self) -> Encoder:
        """What the bundle's manifest says of it."""
        card = self.card
        return Encoder(name=card.name, sha256=card.sha256, max_tokens=card.max_tokens, dim=card.dim)

    @cached_property
    def _session(self) -> ort.InferenceSession:
        return ort.InferenceSession(self.graph, session_options(), providers=["CPUExecutionProvider"])

    def encode(self, token_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the dense vector (dim,) float32 of (n,) token ids; a batch of one, thread-safe."""
        (dense,) = self._session.run(("dense",), {"token_ids": token_ids})
        return np.asarray(dense, dtype=np.float32)


def load_encoder(folder: Path) -> EncoderModel:
    """Read an encoder folder and check its digest.

    Raises:
        DataRefused: a file is missing or damaged; the message names it.
    """
    try:
        card = msgspec.json.decode((folder / CARD).read_bytes(), type=EncoderCard)
        graph, tokenizer_json = (folder / GRAPH).read_bytes(), (folder / TOKENIZER).read_bytes()
    except (OSError, msgspec.MsgspecError) as error:
        raise DataRefused(f"{folder}: not an encoder folder ({GRAPH}, {TOKENIZER}, {CARD}): {error}") from error
    got = hashlib.sha256(graph).hexdigest()
    if got != card.sha256:
        raise DataRefused(f"{folder / GRAPH}: SHA-256 expected {card.sha256}, got {got}; the file is damaged")
    return EncoderModel(card, graph, tokenizer_json)


def export_encoder(
    model: str, out: Path, *, layer: int, max_tokens: int, name: str, base_model: str, base_license: str
) -> EncoderCard:
    """Export the first layers of a sentence-transformers model as an int8 encoder folder.

    Args:
        model: a hub name or a local folder, BERT-shaped (embeddings and a list of layers).
        out: folder to write; made if absent.
        layer: how many transformer layers to keep, at least 1.
        max_tokens: most word pieces it will read, [CLS] and [SEP] included.
        name: name of the encoder, part of its identity in bundles.
        base_model: what the card records as the origin of the weights.
        base_license: their licence, as SPDX.

    Raises:
        MissingExtra: torch or sentence-transformers is not installed.
        DataRefused: the model has no such layer or another shape.
    """
    try:
        import onnxscript  # noqa: F401, PLC0415
        import torch  # noqa: PLC0415
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise MissingExtra("encoders", error.name or "torch") from error
    sentence_model = SentenceTransformer(model, device="cpu", model_kwargs={"attn_implementation": "eager"})
    backbone: Any = sentence_model[0].auto_model
    layers = getattr(getattr(backbone, "encoder", None), "layer", None)
    if layers is None or not 1 <= layer <= len(layers):
        found = "no BERT-style list of layers" if layers is None else f"{len(layers)} layers"
        raise DataRefused(f"{model}: expected at least {layer} layers, got {found}")
    module = _first_layers(torch, backbone, layer).eval()
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        graph = _export_int8(torch, module, Path(scratch), max_tokens)
    tokenizer_json = sentence_model.tokenizer.backend_tokenizer.to_str().encode()
    card = EncoderCard(
        name=name,
        base_model=base_model,
        base_license=base_license,
        layer=layer,
        dim=int(backbone.config.hidden_size),
        max_tokens=max_tokens,
        quantisation="dynamic int8 activations, signed 7-bit weights per channel",
        sha256=hashlib.sha256(graph).hexdigest(),
    )
    for file, content in (
        (GRAPH, graph),
        (TOKENIZER, tokenizer_json),
        (CARD, msgspec.json.format(msgspec.json.encode(card))),
    ):
        write_whole(out / file, content)
    return card


def _first_layers(torch: Any, backbone: Any, layer: int) -> Any:
    class FirstLayers(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.embeddings = backbone.embeddings
            self.layers = torch.nn.ModuleList(backbone.encoder.layer[:layer])

        def forward(self, token_ids: Any) -> Any:
            hidden = self.embeddings(input_ids=token_ids.unsqueeze(0))
            for one in self.layers:
                output = one(hidden)
                hidden = output[0] if isinstance(output, tuple) else output
            return hidden.mean(dim=1).squeeze(0)

    return FirstLayers()


def _export_int8(torch: Any, module: Any, scratch: Path, max_tokens: int) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic  # noqa: PLC0415
    from onnxruntime.quantization.shape_inference import quant_pre_process  # noqa: PLC0415

    full, prepared, int8 = (str(scratch / file) for file in ("full.onnx", "prepared.onnx", "int8.onnx"))
    torch.onnx.export(
        module,
        (torch.arange(5, 45),),
        full,
        input_names=["token_ids"],
        output_names=["dense"],
        dynamic_shapes={"token_ids": {0: torch.export.Dim("n", min=2, max=max_tokens)}},
        opset_version=18,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    quant_pre_process(full, prepared, skip_symbolic_shape=True)
    quantize_dynamic(prepared, int8, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True)
    return _stripped(Path(int8))


def _stripped(path: Path) -> bytes:
    """Return the model without the exporter's notes (stack traces with local paths): same model, same bytes."""
    import onnx  # noqa: PLC0415

    model = onnx.load(path)
    graph = model.graph
    del graph.value_info[:]
    for noted in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        del noted.metadata_props[:]
        noted.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))
