"""Making: how the vectors, counts and digests of logged rows were made; rows of two makings can't be mixed.

Comes in: rows of a decision log, and what they have to fit: an encoder, or a champion. Goes out: the rows that do.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from turnout.serving.bundles.bundle import TOKENIZER
from turnout.serving.bundles.manifest import Manifest
from turnout.serving.router.features import SCHEMA_VERSION
from turnout.training.encoders.encoders import EncoderModel
from turnout.training.errors import DataRefused
from turnout.training.progress import Reporter

_WHAT = {
    "encoder_sha256": ("another encoder's vectors", "name theirs by --encoder, or log with this encoder first"),
    "tokenizer_sha256": ("another tokenizer's counts", "name their encoder by --encoder, or log with this one first"),
    "feature_schema": ("features of another version", "log with this version of Turnout first"),
    "harness_rules": ("other harness rules", "train by the rules that the logging bundle has (--harness-rules)"),
    "key_salt": (
        "digests under another bundle's salt, by which nobody can tell which rows were seen or belong together",
        "learn from rows that bundles of one line of retraining have logged",
    ),
}
"""Of each field: what a row is that differs in it, and what to do."""


@dataclass(frozen=True)
class Making:
    """How rows were made; the fields are columns of compacted logs.

    Attributes:
        encoder_sha256, tokenizer_sha256: hex.
        feature_schema: version of `turnout.serving.router.features`.
        harness_rules: version of `turnout.serving.router.harness`.
        key_salt: of the digests of texts; None for that of most rows.
    """

    encoder_sha256: str
    tokenizer_sha256: str
    feature_schema: int
    harness_rules: int
    key_salt: str | None = None

    @classmethod
    def of_encoder(cls, encoder: EncoderModel, harness_rules: int) -> Making:
        """Return how rows must have been made for a router of this encoder; any salt will do."""
        tokenizer = hashlib.sha256(encoder.tokenizer_json).hexdigest()
        return cls(encoder.card.sha256, tokenizer, SCHEMA_VERSION, harness_rules)

    @classmethod
    def of_champion(cls, manifest: Manifest) -> Making:
        """Return how rows must have been made so that the bundle can answer them, and be known to have seen them."""
        tokenizer, salt = manifest.files[TOKENIZER].sha256, manifest.training.group_salt
        return cls(manifest.encoder.sha256, tokenizer, manifest.feature_schema, manifest.harness_rules, salt)


def of_making(table: pa.Table, making: Making, where: str, reporter: Reporter) -> tuple[pa.Table, str]:
    """Return the rows that were made so, and the salt of their digests; the others are counted and said.

    Args:
        table: rows with vectors, of any making.
        making: that is wanted.
        where: whence the rows come, for messages.
        reporter: what is told of rows that are left out.

    Raises:
        DataRefused: no row is left; the message says in what they differ.
    """
    for field in fields(Making):
        wanted = getattr(making, field.name)
        if wanted is None:
            wanted = Counter(table[field.name].to_pylist()).most_common(1)[0][0]
        fits = pc.fill_null(pc.equal(table[field.name], wanted), fill_value=False)
        kept = table.filter(fits)
        if n_others := table.num_rows - kept.num_rows:
            what, hint = _WHAT[field.name]
            said = f"{n_others} rows hold {what} ({field.name} {_first_other(table, fits, field.name)}, not {wanted})"
            if not kept.num_rows:
                raise DataRefused(f"{where}: {said}; {hint}")
            reporter.say(f"{said}; they are left out")
        table = kept
    return table, str(table["key_salt"][0].as_py())


def _first_other(table: pa.Table, fits: pa.ChunkedArray, name: str) -> object:
    others = table[name].filter(pc.invert(fits))
    return others[int(np.argmax(others.is_valid().to_numpy()))].as_py()
