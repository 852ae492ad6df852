"""The envoy.yaml of the documentation is a bootstrap that Envoy's own messages can hold, and agrees with the server."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.protobuf import json_format

from tests.envoy_messages import envoys
from turnout.serving.protocols.ext_proc.messages import OURS
from turnout.serving.settings import ServerSettings

bootstrap_pb2 = envoys("config.bootstrap.v3.bootstrap_pb2")
ext_proc_pb2 = envoys("extensions.filters.http.ext_proc.v3.ext_proc_pb2")
envoys("extensions.filters.http.router.v3.router_pb2")
http_connection_manager_pb2 = envoys(
    "extensions.filters.network.http_connection_manager.v3.http_connection_manager_pb2"
)
header_mutation_pb2 = envoys("extensions.http.early_header_mutation.header_mutation.v3.header_mutation_pb2")
envoys("extensions.upstreams.http.v3.http_protocol_options_pb2")

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "gateways" / "envoy.md").read_text("utf-8")
SOURCE = re.findall(r"^```yaml\n(static_resources:.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)[0]


def parsed(source: str) -> Any:
    return json_format.ParseDict(yaml.safe_load(source), bootstrap_pb2.Bootstrap())


def unpacked(packed: Any, kind: type[Any]) -> Any:
    message = kind()
    assert packed.Unpack(message)
    return message


@pytest.fixture(scope="module")
def manager() -> Any:
    packed = parsed(SOURCE).static_resources.listeners[0].filter_chains[0].filters[0].typed_config
    return unpacked(packed, http_connection_manager_pb2.HttpConnectionManager)


@pytest.fixture(scope="module")
def ext_proc(manager: Any) -> Any:
    return unpacked(manager.http_filters[0].typed_config, ext_proc_pb2.ExternalProcessor)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("failure_mode_allow", "failure_mode_open"), ("BUFFERED\n", "WHOLE\n"), ("ExtProcPerRoute", "PerRoute")],
)
def test_misspelt_names_would_be_found(right: str, wrong: str):
    assert right in SOURCE
    with pytest.raises(json_format.ParseError):
        parsed(SOURCE.replace(right, wrong))


def test_requests_pass_when_turnout_is_down(ext_proc: Any):
    assert ext_proc.failure_mode_allow


def test_decisions_are_in_time_for_envoy(ext_proc: Any):
    assert ServerSettings().ext_proc_timeout_s < ext_proc.message_timeout.ToTimedelta().total_seconds()


def test_body_is_buffered_with_its_headers(ext_proc: Any):
    mode = ext_proc.processing_mode
    assert mode.BodySendMode.Name(mode.request_body_mode) == "BUFFERED"
    assert mode.HeaderSendMode.Name(mode.request_header_mode) == "SEND"


def test_nobody_picks_a_model_or_a_policy_by_header(manager: Any):
    early = manager.early_header_mutation_extensions[0].typed_config
    removed = {one.remove for one in unpacked(early, header_mutation_pb2.HeaderMutation).mutations}
    assert removed >= {*OURS, "x-turnout-policy", "x-turnout-tenant"}


def test_every_cluster_that_is_named_is_there(manager: Any, ext_proc: Any):
    there = {cluster.name for cluster in parsed(SOURCE).static_resources.clusters}
    named = {route.route.cluster for host in manager.route_config.virtual_hosts for route in host.routes}
    assert named | {ext_proc.grpc_service.envoy_grpc.cluster_name} == there


def test_undecided_requests_go_to_the_strong_model(manager: Any):
    undecided = [route for route in manager.route_config.virtual_hosts[0].routes if not route.match.headers]
    assert {route.route.cluster for route in undecided} == {"strong"}


def test_the_way_to_checked_answers_fits_into_the_file():
    (added,) = re.findall(r"^```yaml\n(routes:.*?)^```", DOCUMENT, re.MULTILINE | re.DOTALL)
    more, whole = yaml.safe_load(added), yaml.safe_load(SOURCE)
    resources = whole["static_resources"]
    manager = resources["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["virtual_hosts"][0]["routes"][:0] = more["routes"]
    resources["clusters"] += more["clusters"]
    merged = json_format.ParseDict(whole, bootstrap_pb2.Bootstrap()).static_resources
    packed = merged.listeners[0].filter_chains[0].filters[0].typed_config
    first = unpacked(packed, http_connection_manager_pb2.HttpConnectionManager).route_config.virtual_hosts[0].routes[0]
    assert first.route.cluster in {cluster.name for cluster in merged.clusters}
    assert first.route.timeout.ToTimedelta().total_seconds() > ServerSettings().upstream_timeout_s
    own = first.typed_per_filter_config["envoy.filters.http.ext_proc"]
    assert unpacked(own, ext_proc_pb2.ExtProcPerRoute).disabled
