"""The published contract: stubs that are those of the proto, names, comments and numbers that stay."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from turnout.serving.pb import router_pb2 as pb
from turnout.serving.pb.generate import PROTO, PROTO_FOLDER, STUBS, generate

NUMBERS = {
    "RouteRequest": "request_id=1 text=2 messages=3 openai_body=4 policy=5 threshold=6 bundle=7 tenant=8 can_check=16",
    "Messages": "messages=1",
    "Message": "role=1 text=2",
    "RouteResponse": "request_id=1 tier=2 model=3 p_match=4 confidence=5 threshold=6 policy=7 reason=8 stage=9 "
    "bundle=10 timings=11 check_wanted=19 action=20",
    "ReportOutcomeRequest": "request_id=1 tier=2 model=3 score=4 preference=5 error_code=6 prompt_tokens=7 "
    "completion_tokens=8 cached_tokens=9 latency_ms=10 bundle=11 tenant=12 session_id=13 task=14",
    "RouteBatchRequest": "requests=1",
    "RouteBatchResponse": "results=1",
    "RouteStreamRequest": "request=1",
    "RouteStreamResponse": "result=1",
    "RouteResult": "response=1 failure=2",
    "RouteFailure": "request_id=1 code=2 message=3 retry_pushback_ms=4",
    "DescribeModelRequest": "bundle=1",
    "DescribeModelResponse": "bundle=1 created=2 synthetic=3 strong_model=4 weak_model=5 encoder=6 calibrator=7 "
    "default_policy=8 policies=9 figures=10",
    "Encoder": "name=1 sha256=2 max_tokens=3 dim=4",
    "Policy": "name=1 kind=2 target=3 threshold=4 is_met=5 share_weak=6 quality_kept=7 share_worse=8 "
    "share_worse_bound=9 delta=10",
    "Figure": "name=1 value=2 low=3 high=4",
    "Timings": "decode_ns=1 queue_ns=2 model_ns=3",
    "WeakAnswer": "text=1 tool_calls=2 is_refusal=3 finish_reason=4",
    "AnswerSignals": "token_logprobs=1 alternative_logprobs=2 mean_logprob=3 self_check=4",
    "CheckRequest": "request=1 request_id=2 answer=3 signals=4 prompt_tokens=5 completion_tokens=6 "
    "latency_ms=7 tenant=8",
    "CheckResponse": "request_id=1 verdict=2 model=3 p_match=4 confidence=5 threshold=6 policy=7 reason=8 head=9 "
    "bundle=10 timings=11 verdict_propensity=12 accept_cost_usd=13 escalate_cost_usd=14 rule=15 signals_used=16 "
    "signals_ignored=17",
    "CheckBatchRequest": "requests=1",
    "CheckBatchResponse": "results=1",
    "CheckStreamRequest": "request=1",
    "CheckStreamResponse": "result=1",
    "CheckResult": "response=1 failure=2",
    "CheckedPolicy": "t_strong=1 t_weak=2 t_accept=3 is_met=4 share_weak=5 share_tried=6 share_escalated=7 "
    "share_answered_weak=8 quality_kept=9 share_worse=10 share_worse_bound=11 delta=12 cost_ratio=13",
    "Action": "ACTION_UNSPECIFIED=0 ACTION_WEAK=1 ACTION_TRY=2 ACTION_STRONG=3",
    "Verdict": "VERDICT_UNSPECIFIED=0 VERDICT_ACCEPT=1 VERDICT_ESCALATE=2",
    "CheckHead": "CHECK_HEAD_UNSPECIFIED=0 CHECK_HEAD_CHECKER=1 CHECK_HEAD_SIGNALS=2 CHECK_HEAD_NONE=3",
    "Tier": "TIER_UNSPECIFIED=0 TIER_WEAK=1 TIER_STRONG=2",
    "Reason": "REASON_UNSPECIFIED=0 REASON_MODEL=1 REASON_RULE=2 REASON_TOO_LONG=3",
    "Stage": "STAGE_UNSPECIFIED=0 STAGE_FAST=1 STAGE_FULL=2",
}
"""Published names and numbers: this table only ever grows."""


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> descriptor_pb2.FileDescriptorProto:
    out = tmp_path_factory.mktemp("proto") / "set.bin"
    google = importlib.resources.files("grpc_tools") / "_proto"
    arguments = [f"-I{PROTO_FOLDER}", f"-I{google}", f"--descriptor_set_out={out}", "--include_source_info", PROTO]
    assert protoc.main(["protoc", *arguments]) == 0
    return descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file[0]


def test_checked_in_stubs_are_those_of_the_proto(tmp_path: Path):
    generate(tmp_path)
    checked_in = Path(pb.__file__).parent
    for name in STUBS:
        assert (checked_in / name).read_text() == (tmp_path / name).read_text(), f"{name}: run `make proto`"


def test_descriptor_keeps_its_canonical_name():
    assert pb.DESCRIPTOR.name == "turnout/v1/router.proto"
    assert pb.DESCRIPTOR.package == "turnout.v1"


@pytest.mark.parametrize("name", NUMBERS)
def test_published_numbers_stay(name: str):
    published = dict(pair.split("=") for pair in NUMBERS[name].split())
    if name in pb.DESCRIPTOR.enum_types_by_name:
        now = {value.name: value.number for value in pb.DESCRIPTOR.enum_types_by_name[name].values}
    else:
        now = {field.name: field.number for field in pb.DESCRIPTOR.message_types_by_name[name].fields}
    assert {key: str(now.get(key)) for key in published} == published


def test_every_field_and_value_and_rpc_says_what_it_is(described: descriptor_pb2.FileDescriptorProto):
    commented = {tuple(place.path) for place in described.source_code_info.location if place.leading_comments.strip()}
    for kind, declared, members in ((4, described.message_type, "field"), (5, described.enum_type, "value")):
        for index, item in enumerate(declared):
            assert (kind, index) in commented, item.name
            for number, member in enumerate(getattr(item, members)):
                assert (kind, index, 2, number) in commented, f"{item.name}.{member.name}"
    assert {(6, 0), *((6, 0, 2, number) for number in range(len(described.service[0].method)))} <= commented


def test_enum_names_follow_the_standard_lint_rules(described: descriptor_pb2.FileDescriptorProto):
    for enum in described.enum_type:
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).upper() + "_"
        assert enum.value[0].name == f"{prefix}UNSPECIFIED"
        assert all(value.name.startswith(prefix) for value in enum.value)


def test_service_and_messages_follow_the_standard_lint_rules(described: descriptor_pb2.FileDescriptorProto):
    (service,) = described.service
    assert service.name.endswith("Service")
    for method in service.method:
        assert method.input_type == f".turnout.v1.{method.name}Request"
        assert method.output_type == f".turnout.v1.{method.name}Response"
