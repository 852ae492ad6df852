"""Origin: how the features of a file were made, for its metadata."""

from __future__ import annotations

import hashlib

import msgspec
from rensa import RMinHash

from turnout.serving.router.features import SCHEMA_VERSION
from turnout.serving.router.redaction import RULES_VERSION
from turnout.training.dataset.features.keep import Keeping
from turnout.training.dataset.features.schema import METADATA_KEY, FeatureOrigin
from turnout.training.encoders.encoders import EncoderModel


def feature_metadata(keeping: Keeping, encoder: EncoderModel) -> dict[bytes, bytes]:
    """Return what the metadata of a file says of its features."""
    origin = FeatureOrigin(
        encoder=encoder.card.name,
        encoder_sha256=encoder.card.sha256,
        tokenizer_sha256=hashlib.sha256(encoder.tokenizer_json).hexdigest(),
        feature_schema=SCHEMA_VERSION,
        harness_rules=keeping.harness_rules,
        salt=keeping.salt,
        minhash=RMinHash.ALGORITHM_VERSION,
        redaction=RULES_VERSION if keeping.redacts else 0,
    )
    return {METADATA_KEY: msgspec.json.encode(origin)}
