"""The Helm chart, rendered by Helm itself: valid for the API and the operator, in step with the command's options."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.contract.test_deploy import API_VERSION, CRDS, DEPLOY, OPERATOR, PARTS, faults, parsed
from tests.contract.test_deploy import manifests as of_parts
from turnout.serving.decision.rules.reading import read_rules
from turnout.serving.settings import ServerSettings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "serving" / "deploy" / "chart"
RULES = '[[rules]]\nname = "support, a fifth of it"\ntenants = ["support"]\nrollout_percent = 20\n'
NAME = "demo-turnout"
EVERYTHING = {
    "bundle": {"path": "/models/support", "existingClaim": "models"},
    "rules": RULES,
    "tls": {"secretName": "certificate"},
    "tokens": {"secretName": "tokens"},
    "serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}},
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "extraArgs": ["--max-queue-items=128"],
    "networkPolicy": {"egress": [{"ports": [{"port": 443}]}]},
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"disk": "fast"},
    "tolerations": [{"key": "gpu", "operator": "Exists"}],
}
BARE = {
    "autoscaling": {"enabled": False},
    "networkPolicy": {"enabled": False},
    "http": {"enabled": False},
}
VALUES = {"defaults": {}, "everything": EVERYTHING, "bare": BARE, "no page": {"http": {"page": False}}}


@pytest.fixture(scope="module")
def helm() -> str:
    return tool("helm")


def tool(name: str) -> str:
    """Return a program that `make chart-tools` gets, or the machine's own; skip without."""
    own = ROOT / ".chart-tools" / name / name
    found = str(own) if own.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed; get it with: make chart-tools")
    return found


def rendered(helm: str, values: dict[str, Any], *, release: str = "demo") -> subprocess.CompletedProcess[str]:
    command = [helm, "template", release, CHART, "--values", "-"]
    return subprocess.run(command, input=yaml.safe_dump(values), capture_output=True, text=True, timeout=60)


def manifests(helm: str, values: dict[str, Any]) -> dict[str, Any]:
    done = rendered(helm, values)
    assert done.returncode == 0, done.stderr
    return {one["kind"]: one for one in yaml.safe_load_all(done.stdout) if one}


@pytest.fixture(params=VALUES)
def found(request: pytest.FixtureRequest, helm: str) -> tuple[str, dict[str, Any]]:
    return request.param, manifests(helm, VALUES[request.param])


def test_chart_passes_helms_own_checks(helm: str):
    done = subprocess.run([helm, "lint", "--strict", CHART], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


def test_every_manifest_is_valid_for_the_api(found: tuple[str, dict[str, Any]]):
    name, kinds = found
    core = [one for one in kinds.values() if one["apiVersion"] != OPERATOR]
    assert {"Deployment", "Service", "PodDisruptionBudget"} <= {one["kind"] for one in core}
    for one in core:
        kubernetes_validate.validate(one, API_VERSION, strict=True)
    assert (name == "everything") == (len(core) < len(kinds)), "nothing but what was asked for needs an operator"


def test_what_the_operator_takes_is_valid_for_it(helm: str):
    node = shutil.which("node")
    if node is None or not (CRDS / "node_modules").is_dir():
        pytest.skip("the schemas of the Prometheus operator are not installed; get them with: make crd-schemas")
    kinds = manifests(helm, EVERYTHING)
    for kind in ("ServiceMonitor", "PrometheusRule"):
        assert faults(node, kind, kinds[kind]["spec"]) == []
    alerts = yaml.safe_load((ROOT / "serving" / "observe" / "alerts.yml").read_text())
    assert kinds["PrometheusRule"]["spec"] == alerts


def test_server_takes_its_arguments_and_listens_where_ports_and_probes_look(found: tuple[str, dict[str, Any]]):
    name, kinds = found
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    options = parsed(container["args"])
    settings = {key: value for key, value in options.items() if key in ServerSettings.__dataclass_fields__}
    ServerSettings(**settings)  # which refuses what contradicts
    assert options["lame_duck_s"] + options["grace_s"] < pod["terminationGracePeriodSeconds"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (options["listen"], options["metrics"]) == (f"0.0.0.0:{ports['grpc']}", f"0.0.0.0:{ports['metrics']}")
    assert options["http"] == ("" if name == "bare" else f"0.0.0.0:{ports['http']}")
    assert options["page"] == (name != "no page")
    assert {port["targetPort"] for port in kinds["Service"]["spec"]["ports"]} == set(ports)
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        (way,) = {"grpc", "httpGet"} & container[probe].keys()
        assert way == ("httpGet" if name == "everything" else "grpc")
        assert container[probe][way]["port"] in ({"http"} if way == "httpGet" else {ports["grpc"]})


def mounted(kinds: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in pod["containers"][0]["volumeMounts"]:
        yield mount["mountPath"], volumes.pop(mount["name"])
    assert volumes == {}, "volumes that nothing mounts"


def test_files_named_are_mounted(helm: str):
    kinds = manifests(helm, EVERYTHING)
    options = parsed(kinds["Deployment"]["spec"]["template"]["spec"]["containers"][0]["args"])
    places = dict(mounted(kinds))
    assert places["/etc/turnout/tls"]["secret"]["secretName"] == "certificate"
    assert options["tls_cert"].parent == options["tls_key"].parent == Path("/etc/turnout/tls")
    assert places["/etc/turnout/tokens"]["secret"]["secretName"] == "tokens"
    assert options["tokens"] == Path("/etc/turnout/tokens/tokens.toml")
    assert places["/models"]["persistentVolumeClaim"] == {"claimName": "models", "readOnly": True}
    assert options["bundles"] == (Path("/models/support"),)
    assert options["rules"].parent == Path("/etc/turnout/rules")
    assert not options["insecure_public"]
    config = kinds["ConfigMap"]
    assert places["/etc/turnout/rules"]["configMap"]["name"] == config["metadata"]["name"]
    assert config["data"][options["rules"].name] == RULES


def test_rules_of_the_test_are_rules(tmp_path: Path):
    (tmp_path / "rules.toml").write_text(RULES)
    read_rules(tmp_path / "rules.toml")


def test_base_needs_no_volume_and_runs_closed(helm: str):
    kinds = manifests(helm, {})
    assert [volume for _, volume in mounted(kinds) if "emptyDir" not in volume] == []
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    own = pod["containers"][0]["securityContext"]
    assert own["readOnlyRootFilesystem"]
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert parsed(pod["containers"][0]["args"]).get("bundles", ()) == ()


def test_selectors_find_the_pods(found: tuple[str, dict[str, Any]]):
    _, kinds = found
    labels = kinds["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [kinds["Service"]["spec"]["selector"]]
    selectors += [
        kinds[kind]["spec"]["selector"]["matchLabels"]
        for kind in ("Deployment", "PodDisruptionBudget", "ServiceMonitor")
        if kind in kinds
    ]
    selectors += [kinds[kind]["spec"]["podSelector"]["matchLabels"] for kind in ("NetworkPolicy",) if kind in kinds]
    assert all(selector.items() <= labels.items() for selector in selectors)
    assert kinds["Service"]["metadata"]["labels"].items() >= selectors[0].items()
    scaled = kinds.get("HorizontalPodAutoscaler")
    assert ("replicas" in kinds["Deployment"]["spec"]) == (scaled is None)
    assert scaled is None or scaled["spec"]["scaleTargetRef"]["name"] == NAME


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"tls": {"secretName": "s"}, "http": {"enabled": False}}, "the probes ask the HTTP port"),
        ({"bundle": {"existingClaim": "c"}}, "needs bundle.path"),
        ({"replica": 3}, "replica"),
        ({"workers": 0}, "workers"),
        ({"extraArgs": ["serve"]}, "extraArgs"),
    ],
    ids=range(5),
)
def test_values_that_can_not_work_are_refused(helm: str, values: dict[str, Any], says: str):
    done = rendered(helm, values)
    assert done.returncode != 0
    assert says in done.stderr


def test_release_named_after_turnout_is_not_named_twice(helm: str):
    done = rendered(helm, {}, release="turnout")
    names = {one["metadata"]["name"] for one in yaml.safe_load_all(done.stdout) if one}
    assert names == {"turnout"}


def built(folder: str) -> dict[str, dict[str, Any]]:
    command = [tool("kubectl"), "kustomize", DEPLOY / folder]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {f"{one['kind']}/{one['metadata']['name']}": one for one in yaml.safe_load_all(done.stdout)}


@pytest.mark.parametrize(("folder", "parts"), [("base", ("base",)), ("all", PARTS)])
def test_kustomization_builds_what_its_files_hold(folder: str, parts: tuple[str, ...]):
    found = built(folder)
    assert found.keys() == of_parts(*parts).keys()
    for name, one in found.items():
        if one["apiVersion"] != OPERATOR:
            kubernetes_validate.validate(one, API_VERSION, strict=True)
        assert one["metadata"]["labels"]["app.kubernetes.io/part-of"] == "turnout", name


def test_registry_is_read_by_pods_that_serve_and_follow_it():
    pod = built("all")["Deployment/turnout"]["spec"]["template"]["spec"]
    (server,) = pod["containers"]
    assert server["args"][-1].startswith("--bundle=/models/")
    parsed(server["args"])
    mounts = [mount for one in (*pod["initContainers"], server) for mount in one["volumeMounts"]]
    assert [mount["readOnly"] for mount in mounts if mount["mountPath"] == "/models"] == [True, True]
    assert all(mount["name"] in {volume["name"] for volume in pod["volumes"]} for mount in mounts)
    assert all(":" in one["image"] for one in (*pod["initContainers"], server))
    assert pod["containers"][0]["securityContext"] == pod["initContainers"][0]["securityContext"]
