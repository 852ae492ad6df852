"""Whatever happens to the bytes of a spool file, no wrong record comes out, and no error either."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.spool_builders import spool_file
from turnout.serving.spool.framing import (
    HEADER_BYTES,
    MARKER,
    MAX_PAYLOAD_BYTES,
    RECORD_BYTES,
    RecordKind,
    file_header,
    framed,
    read_header,
    unframed,
)
from turnout.serving.spool.outcome import Outcome, decode_outcome, encode_outcome
from turnout.serving.spool.reader import Damage, SpoolRecord, read_file, read_spool

PAYLOADS = st.lists(st.binary(max_size=60) | st.just(MARKER * 5), min_size=1, max_size=6)


def mutated(payloads: list[bytes], change: Callable[[bytes], bytes]) -> tuple[bytes, list[SpoolRecord], list, Path]:
    """Write a file, change its bytes, and return old bytes, old records, what is read now, and the path."""
    with tempfile.TemporaryDirectory() as folder:
        path = spool_file(Path(folder), payloads)
        before = [found for found in read_file(path) if isinstance(found, SpoolRecord)]
        raw = path.read_bytes()
        path.write_bytes(change(raw))
        return raw, before, list(read_spool(Path(folder))), path


def end_of(record: SpoolRecord) -> int:
    return record.offset + RECORD_BYTES + len(record.payload)


@given(PAYLOADS)
def test_what_is_written_is_read_in_order(payloads: list[bytes]):
    raw, before, after, _ = mutated(payloads, lambda raw: raw)
    assert [record.payload for record in before] == payloads
    assert after == before
    assert end_of(before[-1]) == len(raw)


@given(PAYLOADS, st.data())
def test_truncated_file_gives_all_complete_records_and_one_torn_tail(payloads: list[bytes], data: st.DataObject):
    length = data.draw(st.integers(0, HEADER_BYTES + sum(map(len, payloads)) + RECORD_BYTES * len(payloads)))
    _, before, after, path = mutated(payloads, lambda raw: raw[:length])
    whole = [record for record in before if end_of(record) <= length]
    begin = end_of(whole[-1]) if whole else HEADER_BYTES if length >= HEADER_BYTES else 0
    tails = [found for found in after if isinstance(found, Damage)]
    assert [found for found in after if isinstance(found, SpoolRecord)] == whole
    assert [(tail.path, tail.offset, tail.n_bytes, tail.is_torn_tail) for tail in tails] == [
        (path, begin, length - begin, True)
    ] * (length > begin or length == 0)


@given(PAYLOADS, st.data())
def test_flipped_bit_costs_the_record_that_it_hits_and_no_other(payloads: list[bytes], data: st.DataObject):
    n_bytes = HEADER_BYTES + sum(map(len, payloads)) + RECORD_BYTES * len(payloads)
    place, bit = data.draw(st.integers(0, n_bytes - 1)), data.draw(st.integers(0, 7))

    def flip(raw: bytes) -> bytes:
        return raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :]

    _, before, after, _ = mutated(payloads, flip)
    damages = [found for found in after if isinstance(found, Damage)]
    records = [found for found in after if isinstance(found, SpoolRecord)]
    assert len(damages) == 1
    if place < HEADER_BYTES:
        assert (records, damages[0].offset, damages[0].is_torn_tail) == ([], 0, False)
        return
    (hit,) = [record for record in before if record.offset <= place < end_of(record)]
    assert records == [record for record in before if record != hit]
    assert (damages[0].offset, damages[0].n_bytes) == (hit.offset, end_of(hit) - hit.offset)
    assert damages[0].is_torn_tail == (hit == before[-1])


@given(PAYLOADS, st.data())
def test_any_overwriting_gives_original_records_or_none(payloads: list[bytes], data: st.DataObject):
    def overwrite(raw: bytes) -> bytes:
        changed = bytearray(raw)
        for _ in range(data.draw(st.integers(1, 4))):
            begin = data.draw(st.integers(0, len(raw)))
            piece = data.draw(st.binary(max_size=30) | st.just(raw[HEADER_BYTES : HEADER_BYTES + 40]))
            changed[begin : begin + data.draw(st.integers(0, 40))] = piece
        return bytes(changed)

    _, before, after, _ = mutated(payloads, overwrite)
    originals = {(record.kind, record.payload) for record in before}
    assert all((found.kind, found.payload) in originals for found in after if isinstance(found, SpoolRecord))


def test_record_inside_a_damaged_payload_is_not_mistaken_for_one(tmp_path: Path):
    path = spool_file(tmp_path, [b"first"])
    _, salt = read_header(path.read_bytes())
    forged = framed(RecordKind.OUTCOME, b"forged", salt, HEADER_BYTES)  # intact, at another place
    path.write_bytes(file_header(salt) + b"\0" * 7 + forged)
    assert [type(found) for found in read_spool(tmp_path)] == [Damage]
    assert unframed(path.read_bytes()[:HEADER_BYTES] + forged, salt, HEADER_BYTES).payload == b"forged"
    assert unframed(path.read_bytes()[:HEADER_BYTES] + forged, salt ^ 1, HEADER_BYTES) is None


def test_file_of_a_later_format_is_reported_and_the_next_one_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with monkeypatch.context() as later:
        later.setattr("turnout.serving.spool.framing.FORMAT_VERSION", 2)
        path = spool_file(tmp_path, [b"of the future"], sequence=1)
    spool_file(tmp_path, [b"of today"], sequence=2)
    damage, record = read_spool(tmp_path)
    assert (damage.path, damage.is_torn_tail, record.payload) == (path, False, b"of today")
    assert "format 2, this version of Turnout reads up to 1" in damage.what


def test_length_beyond_the_limit_is_damage_and_reads_nothing(tmp_path: Path):
    path = spool_file(tmp_path, [b"x" * (MAX_PAYLOAD_BYTES + 1), b"next"])
    found = list(read_file(path))
    assert [type(one) for one in found] == [Damage, SpoolRecord]
    assert found[1].payload == b"next"


def test_outcome_of_an_older_and_of_a_later_version_is_read():
    outcome = Outcome(request_id="r1", received_s=1.5, score=0.25, tier="weak", cached_tokens=0)
    payload = encode_outcome(outcome)
    assert decode_outcome(payload) == outcome
    map_of_three = bytes([0x83]) + b"".join(
        bytes([0xA0 + len(name)]) + name + value
        for name, value in ((b"request_id", b"\xa2r1"), (b"received_s", b"\x01"), (b"new_field", b"\x02"))
    )
    assert decode_outcome(map_of_three) == Outcome(request_id="r1", received_s=1.0)
    assert b"bundle" not in payload  # what is unknown takes no bytes
