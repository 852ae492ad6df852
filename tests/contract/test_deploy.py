"""The Kubernetes manifests: valid for the API, consistent with each other, and with the commands that they run."""

from __future__ import annotations

import copy
import dataclasses
import json
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from turnout.serving.cli import app as cli

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "serving" / "deploy"
PARTS = ("base", "registry", "monitoring")
"""The base stands alone; the others are components that `all` adds to it."""
CRDS = Path(__file__).with_name("crds")
API_VERSION = "1.33"
"""All that is used is stable there; a later schema is no stricter on it."""
OPERATOR = "monitoring.coreos.com/v1"
KUSTOMIZATIONS = {name: yaml.safe_load((DEPLOY / name / "kustomization.yaml").read_text()) for name in PARTS}


def manifests(*parts: str) -> dict[str, Any]:
    found = {}
    for part in parts:
        for name in KUSTOMIZATIONS[part]["resources"]:
            for one in yaml.safe_load_all((DEPLOY / part / name).read_text()):
                found[f"{one['kind']}/{one['metadata']['name']}"] = one
    return found


MANIFESTS = manifests(*PARTS)
CORE = {name: one for name, one in MANIFESTS.items() if one["apiVersion"] != OPERATOR}
OPERATORS = {name: one for name, one in MANIFESTS.items() if one["apiVersion"] == OPERATOR}
PODS = {
    "Deployment/turnout": MANIFESTS["Deployment/turnout"]["spec"]["template"],
    "Job/turnout-seed": MANIFESTS["Job/turnout-seed"]["spec"]["template"],
    "CronJob/turnout-retrain": MANIFESTS["CronJob/turnout-retrain"]["spec"]["jobTemplate"]["spec"]["template"],
}


def containers(template: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield from template["spec"].get("initContainers", [])
    yield from template["spec"]["containers"]


@pytest.mark.parametrize("part", PARTS)
def test_kustomization_lists_every_file_and_image(part: str):
    said = KUSTOMIZATIONS[part]
    named = [*said["resources"], *(one["path"] for one in said.get("patches", []) if "path" in one)]
    assert sorted(named) == sorted(path.name for path in (DEPLOY / part).iterdir() if path.name != "kustomization.yaml")
    pods = [template for name, template in PODS.items() if name in manifests(part)]
    used = {one["image"] for template in pods for one in containers(template)}
    assert {image["name"] for image in said.get("images", [])} == used


def test_base_needs_neither_an_operator_nor_a_volume():
    base = manifests("base")
    assert all(one["apiVersion"] != OPERATOR for one in base.values())
    assert not any(name.startswith("PersistentVolumeClaim/") for name in base)
    volumes = PODS["Deployment/turnout"]["spec"]["volumes"]
    assert [volume["name"] for volume in volumes if "emptyDir" not in volume] == []


@pytest.mark.parametrize("name", CORE)
def test_manifest_is_valid_for_the_api(name: str):
    kubernetes_validate.validate(CORE[name], API_VERSION, strict=True)


def test_misspelt_field_would_be_found():
    wrong = copy.deepcopy(CORE["Deployment/turnout"])
    pod = wrong["spec"]["template"]["spec"]
    pod["containers"][0]["readynessProbe"] = pod["containers"][0].pop("readinessProbe")
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(wrong, API_VERSION, strict=True)


@pytest.fixture(scope="module")
def node() -> str:
    path = shutil.which("node")
    if path is None:
        pytest.skip("node is not installed")
    if not (CRDS / "node_modules").is_dir():
        pytest.skip("the schemas of the Prometheus operator are not installed; get them with: make crd-schemas")
    return path


def faults(node: str, kind: str, spec: dict[str, Any]) -> list[Any]:
    request = json.dumps({"kind": kind, "spec": spec})
    done = subprocess.run([node, CRDS / "validate.mjs"], input=request, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", OPERATORS)
def test_manifest_is_valid_for_the_operator(node: str, name: str):
    assert faults(node, OPERATORS[name]["kind"], OPERATORS[name]["spec"]) == []


def test_wrong_type_would_be_found(node: str):
    wrong = {"selector": {}, "endpoints": [{"port": 9464}]}
    assert faults(node, "ServiceMonitor", wrong) != []


def test_rules_are_those_that_promtool_tests():
    rules = yaml.safe_load((ROOT / "serving" / "observe" / "alerts.yml").read_text())
    assert MANIFESTS["PrometheusRule/turnout"]["spec"] == rules


@pytest.mark.parametrize("name", PODS)
def test_pods_run_closed(name: str):
    spec = PODS[name]["spec"]
    assert spec["securityContext"]["runAsNonRoot"]
    assert not spec["automountServiceAccountToken"]
    for one in containers(PODS[name]):
        own = one["securityContext"]
        assert own["readOnlyRootFilesystem"]
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not own["allowPrivilegeEscalation"]
        assert "memory" in one["resources"]["limits"]


@pytest.mark.parametrize("name", PODS)
def test_volumes_are_there_and_only_jobs_write_to_the_registry(name: str):
    volumes = {volume["name"]: volume for volume in PODS[name]["spec"]["volumes"]}
    claims = {one["persistentVolumeClaim"]["claimName"] for one in volumes.values() if "persistentVolumeClaim" in one}
    assert {f"PersistentVolumeClaim/{claim}" for claim in claims} <= MANIFESTS.keys()
    for one in containers(PODS[name]):
        for mount in one["volumeMounts"]:
            assert mount["name"] in volumes
            if mount["name"] == "models":
                assert mount.get("readOnly", False) == (name == "Deployment/turnout")


def test_selectors_find_the_pods_and_ports_their_names():
    labels = PODS["Deployment/turnout"]["metadata"]["labels"]
    ports = {port["name"] for port in PODS["Deployment/turnout"]["spec"]["containers"][0]["ports"]}
    service = MANIFESTS["Service/turnout"]
    assert service["spec"]["selector"] == labels == service["metadata"]["labels"]
    assert {port["targetPort"] for port in service["spec"]["ports"]} == ports
    for name in ("Deployment", "PodDisruptionBudget", "ServiceMonitor"):
        assert MANIFESTS[f"{name}/turnout"]["spec"]["selector"]["matchLabels"] == labels
    network = MANIFESTS["NetworkPolicy/turnout"]["spec"]
    assert network["podSelector"]["matchLabels"] == labels
    assert {port["port"] for rule in network["ingress"] for port in rule["ports"]} == ports
    jobs = MANIFESTS["NetworkPolicy/turnout-jobs"]["spec"]["podSelector"]["matchLabels"]
    for name in ("Job/turnout-seed", "CronJob/turnout-retrain"):
        assert PODS[name]["metadata"]["labels"] == jobs
    assert MANIFESTS["HorizontalPodAutoscaler/turnout"]["spec"]["scaleTargetRef"]["name"] == "turnout"


def parsed(words: list[str]) -> dict[str, Any]:
    """Return the options that a command of ours reads from these words; raises on those it does not know."""
    _, bound, _ = cli.build(words).parse_args(words, exit_on_error=False, print_error=False)
    found = {}
    for name, value in bound.arguments.items():
        found |= vars_of(value) if dataclasses.is_dataclass(value) else {name: value}
    return found


def vars_of(value: Any) -> dict[str, Any]:
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


def test_server_takes_its_arguments_and_has_time_to_drain():
    pod = PODS["Deployment/turnout"]["spec"]
    options = parsed(pod["containers"][0]["args"])
    assert options["lame_duck_s"] + options["grace_s"] < pod["terminationGracePeriodSeconds"]
    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    assert (options["listen"], options["metrics"]) == (f"0.0.0.0:{ports['grpc']}", f"0.0.0.0:{ports['metrics']}")


def test_retraining_takes_its_arguments_and_follows_what_is_served():
    (script,) = PODS["CronJob/turnout-retrain"]["spec"]["containers"][0]["args"]
    words = shlex.split(script.partition("||")[0])
    champion = parsed(words[1:])["champion"]
    (patch,) = (one["patch"] for one in KUSTOMIZATIONS["registry"]["patches"] if "patch" in one)
    (added,) = yaml.safe_load(patch)
    args = PODS["Deployment/turnout"]["spec"]["containers"][0]["args"]
    assert list(parsed([*args, added["value"]])["bundles"]) == [champion]
