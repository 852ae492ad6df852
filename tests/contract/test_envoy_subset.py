"""The messages of Envoy's that we wrote down have Envoy's own field numbers, types and names."""

from __future__ import annotations

from typing import Any

import pytest

from tests.envoy_messages import base_pb2, ext
from turnout.serving.pb import ext_proc_pb2 as ours

THEIRS = {**ext.DESCRIPTOR.message_types_by_name, **base_pb2.DESCRIPTOR.message_types_by_name}


def shape(field: Any) -> tuple[Any, ...]:
    of = field.message_type or field.enum_type
    values = {value.number: value.name for value in field.enum_type.values} if field.enum_type else {}
    return field.number, field.type, field.is_repeated, of.name if of else "", values


@pytest.mark.parametrize("name", ours.DESCRIPTOR.message_types_by_name)
def test_fields_are_those_of_envoy(name: str):
    for field in ours.DESCRIPTOR.message_types_by_name[name].fields:
        number, kind, repeated, of, values = shape(field)
        theirs = shape(THEIRS[name].fields_by_name[field.name])
        assert (number, kind, repeated, of) == theirs[:4]
        assert values.items() <= theirs[4].items()
