"""Our subset of Envoy's messages has Envoy's own field numbers, types and numbers of enums."""

from __future__ import annotations

from typing import Any

import pytest

import tests.envoy_messages  # noqa: F401  # first: it makes the next ones importable
from serving.pb import ext_proc_pb2 as ours

from envoy.config.core.v3 import base_pb2
from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3 import external_processor_pb2

THEIRS = {**external_processor_pb2.DESCRIPTOR.message_types_by_name, **base_pb2.DESCRIPTOR.message_types_by_name}
ENUMS = {
    "BodySendMode": ProcessingMode.BodySendMode.DESCRIPTOR,
    "HeaderAppendAction": base_pb2.HeaderValueOption.HeaderAppendAction.DESCRIPTOR,
}


@pytest.mark.parametrize("name", ours.DESCRIPTOR.message_types_by_name)
def test_fields_are_those_of_envoy(name: str):
    for field in ours.DESCRIPTOR.message_types_by_name[name].fields:
        theirs = THEIRS[name].fields_by_name[field.name]
        assert shape(field) == shape(theirs)


def test_enums_have_envoys_numbers():
    assert set(ours.DESCRIPTOR.enum_types_by_name) == set(ENUMS)
    for name, theirs in ENUMS.items():
        for value in ours.DESCRIPTOR.enum_types_by_name[name].values:
            their_name = theirs.values_by_number[value.number].name
            assert value.number == 0 or value.name.endswith(f"_{their_name}")


def shape(field: Any) -> tuple[Any, ...]:
    of = field.message_type or field.enum_type
    oneof = field.containing_oneof.name if field.containing_oneof else ""
    return field.number, field.type, field.is_repeated, of.name if of else "", oneof
