"""The manifests are valid, restricted, complete, and let those talk who must, and nobody else."""

import io
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from declared import INFRA, KUSTOMIZATION, MANIFESTS, SERVICES, pods, settings
from ruamel.yaml import YAML

PODS = pods()
CONTAINERS = {name: pod["spec"]["containers"][0] for name, pod in PODS.items()}
LASTING = {
    one["metadata"]["name"] for one in MANIFESTS if one["kind"] in {"Deployment", "StatefulSet"}
}
SECRETS = settings((INFRA / ".env.example").read_text()).keys()
NAME, ROLE = "app.kubernetes.io/name", "lcm-lora/role"


def references(container: dict[str, Any], kind: str) -> list[tuple[str, str]]:
    """Return which keys of which Secrets, or ConfigMaps, a container asks for."""
    sources = [one.get("valueFrom", {}).get(f"{kind}KeyRef") for one in container["env"]]
    return [(source["name"], source["key"]) for source in sources if source]


def generated() -> dict[str, set[str]]:
    """Return the ConfigMaps that kustomize makes, with their keys."""
    made = {}
    for one in KUSTOMIZATION["configMapGenerator"]:
        keys = {line.split("=")[0] for line in one.get("literals", [])}
        keys |= {Path(path).name for path in one.get("files", [])}
        for path in one.get("envs", []):
            keys |= settings((INFRA / path).read_text()).keys()
        made[one["name"]] = keys
    return made


def selected(selector: dict[str, Any]) -> set[str]:
    """Return the workloads whose pods a selector means."""
    wanted = selector.get("matchLabels", {}).items()
    return {name for name, pod in PODS.items() if wanted <= pod["metadata"]["labels"].items()}


def allowed(direction: str, peer: str) -> Iterator[tuple[str, str, int]]:
    """Yield who may reach whom at which port, as the policies of one direction say."""
    for one in MANIFESTS:
        if one["kind"] != "NetworkPolicy":
            continue
        for rule in one["spec"].get(direction, []):
            for other in rule.get(peer, []):
                for far in selected(other["podSelector"]) if "podSelector" in other else ():
                    for near in selected(one["spec"]["podSelector"]):
                        pair = (far, near) if direction == "ingress" else (near, far)
                        yield (*pair, rule["ports"][0]["port"])


def test_every_manifest_is_valid_to_the_letter() -> None:
    done = subprocess.run(
        [
            Path(sys.executable).parent / "kubernetes-validate",
            *("--strict", "--quiet", *sorted((INFRA / "kubernetes").glob("*.yaml"))),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_all_of_it_is_applied() -> None:
    files = {f"kubernetes/{path.name}" for path in (INFRA / "kubernetes").glob("*.yaml")}
    assert set(KUSTOMIZATION["resources"]) == files
    ours = {box["image"] for box in CONTAINERS.values() if box["image"].startswith("lcm-lora-")}
    assert {image["name"] for image in KUSTOMIZATION["images"]} == ours
    for image in {box["image"] for box in CONTAINERS.values()} - ours:
        assert image in {one["image"] for one in SERVICES.values()}, "the same as in compose.yaml"


@pytest.mark.parametrize("name", PODS)
def test_a_pod_is_as_restricted_as_its_namespace_asks(name: str) -> None:
    (namespace,) = (one for one in MANIFESTS if one["kind"] == "Namespace")
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod, box = PODS[name]["spec"], CONTAINERS[name]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert box["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert box["resources"]["requests"].keys() >= {"cpu", "memory"}
    assert "memory" in box["resources"]["limits"]
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


@pytest.mark.parametrize("name", sorted(LASTING))
def test_what_lasts_is_asked_how_it_is(name: str) -> None:
    probes = {probe for probe in CONTAINERS[name] if probe.endswith("Probe")}
    # A worker says that it is ill while the server is away, and its runs must outlast that.
    restarted = set() if name.endswith("-worker") else {"livenessProbe"}
    assert probes == {"startupProbe", "readinessProbe"} | restarted


@pytest.mark.parametrize("name", PODS)
def test_whatever_a_pod_refers_to_is_there(name: str) -> None:
    box, spec = CONTAINERS[name], PODS[name]["spec"]
    maps = generated()
    for secret, key in references(box, "secret"):
        assert secret == "lcm-lora"
        assert key in SECRETS
    for where, key in references(box, "configMap"):
        assert key in maps[where]
    whole = {one["configMapRef"]["name"] for one in box.get("envFrom", [])}
    whole |= {one["configMap"]["name"] for one in spec["volumes"] if "configMap" in one}
    assert whole <= maps.keys()
    claims = {
        one["metadata"]["name"] for one in MANIFESTS if one["kind"] == "PersistentVolumeClaim"
    }
    used = {
        one["persistentVolumeClaim"]["claimName"]
        for one in spec["volumes"]
        if "persistentVolumeClaim" in one
    }
    assert used <= claims
    (owner,) = (
        one
        for one in MANIFESTS
        if one["metadata"]["name"] == name
        and one["kind"] != "Service"
        and one["kind"] not in {"NetworkPolicy", "PodDisruptionBudget"}
    )
    own = owner["spec"].get("volumeClaimTemplates", [])
    volumes = {one["name"] for one in spec["volumes"]} | {one["metadata"]["name"] for one in own}
    assert {mount["name"] for mount in box["volumeMounts"]} == volumes


def test_the_job_that_dumps_restores_with_the_command_of_the_readme() -> None:
    assert generated()["backup"] == {path.name for path in (INFRA / "backup").iterdir()}
    (words,) = re.findall(r"sed '(.*)'", (INFRA / "README.md").read_text())
    plain = io.StringIO()
    YAML().dump(PODS["backup"]["spec"], plain)
    done = subprocess.run(
        ["sed", words], input=plain.getvalue(), capture_output=True, text=True, check=True
    )
    (box,) = YAML(typ="safe").load(done.stdout)["containers"]
    command = ["/backup/restore.sh", "/backups/2026-11-26T013000Z"]
    assert box == CONTAINERS["backup"] | {"command": command}


@pytest.mark.parametrize("name", PODS)
def test_a_secret_is_only_ever_a_reference(name: str) -> None:
    assert not [one for one in MANIFESTS if one["kind"] == "Secret"]
    for one in CONTAINERS[name]["env"]:
        if re.search("PASSWORD|SECRET", one["name"]):
            assert "secretKeyRef" in one["valueFrom"], one["name"]
        elif one["name"].endswith("AUTH_STRING"):
            assert one["value"] == "admin:$(PREFECT_PASSWORD)"


def test_a_worker_is_told_the_same_as_in_compose() -> None:
    maps = generated()
    for name in ("cpu-worker", "gpu-worker", "deployments"):
        own = {one["name"] for one in CONTAINERS[name]["env"]}
        for source in CONTAINERS[name]["envFrom"]:
            own |= maps[source["configMapRef"]["name"]]
        assert SERVICES[name]["environment"].keys() <= own


@pytest.mark.parametrize("name", ["prefect", "mlflow", "serve"])
def test_a_server_is_told_the_same_as_in_compose(name: str) -> None:
    told = {one["name"]: one.get("value") for one in CONTAINERS[name]["env"]}
    maps, declared = generated(), SERVICES[name]["environment"]
    mapped = {one["configMapRef"]["name"] for one in CONTAINERS[name]["envFrom"]} - {"offline"}
    keys = told.keys() | {key for one in mapped for key in maps[one]}
    assert keys - {"PREFECT_PASSWORD"} == declared.keys()
    for key, value in declared.items():
        if told.get(key) is not None and "${" not in value:
            assert told[key] == value, key


def test_nobody_talks_but_those_who_must() -> None:
    closed = [
        one["spec"]
        for one in MANIFESTS
        if one["kind"] == "NetworkPolicy" and one["spec"]["podSelector"] == {}
    ]
    assert {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]} in closed
    workers = {"cpu-worker", "gpu-worker", "deployments"}
    wanted = {(who, "postgres", 5432) for who in ("prefect", "mlflow", "backup")}
    wanted |= {(who, "prefect", 4200) for who in workers}
    wanted |= {(who, "mlflow", 5000) for who in workers | {"users", "serve"}}
    assert set(allowed("ingress", "from")) == wanted
    assert set(allowed("egress", "to")) == wanted, "what one side lets go the other lets in"


def test_nobody_leaves_the_cluster_but_those_who_must() -> None:
    outside = {
        (who, port["port"])
        for one in MANIFESTS
        if one["kind"] == "NetworkPolicy"
        for rule in one["spec"].get("egress", [])
        if {"ipBlock": {"cidr": "0.0.0.0/0"}} in rule.get("to", [])
        for who in selected(one["spec"]["podSelector"])
        for port in rule["ports"]
    }
    everybody = {"cpu-worker", "gpu-worker", "deployments", "prefect", "mlflow", "serve"}
    mail = {("prefect", 465), ("prefect", 587)}
    assert outside == {(who, 443) for who in everybody} | mail


def test_what_is_named_by_services_is_what_they_select() -> None:
    for one in MANIFESTS:
        if one["kind"] == "Service":
            (name,) = selected({"matchLabels": one["spec"]["selector"]})
            assert name == one["metadata"]["name"]
            ports = {port["port"] for port in one["spec"]["ports"]}
            assert ports == {port["containerPort"] for port in CONTAINERS[name]["ports"]}


def test_workers_are_taken_away_one_at_a_time() -> None:
    budgets = {
        one["metadata"]["name"]: one["spec"]
        for one in MANIFESTS
        if one["kind"] == "PodDisruptionBudget"
    }
    assert budgets.keys() == {"cpu-worker", "gpu-worker"}
    for name, budget in budgets.items():
        assert budget["maxUnavailable"] == 1
        assert selected(budget["selector"]) == {name}


@pytest.mark.parametrize("pool", ["cpu", "gpu"])
def test_a_pod_of_a_run_is_what_a_worker_is(pool: str) -> None:
    """Its job template is brought to Prefect, not to the cluster: no other check sees both."""
    template = json.loads((INFRA / "pools" / f"kubernetes-{pool}.json").read_text())
    pod = template["job_configuration"]["job_manifest"]["spec"]["template"]
    box, like = pod["spec"]["containers"][0], CONTAINERS[f"{pool}-worker"]
    assert pod["metadata"]["labels"][ROLE] == "worker", "the policies let workers alone out"
    assert box["envFrom"] == like["envFrom"]
    assert all(one in box["env"] for one in like["env"])
    assert box["securityContext"] == like["securityContext"]
    assert pod["spec"]["securityContext"] == PODS[f"{pool}-worker"]["spec"]["securityContext"]
    claims = [one for one in pod["spec"]["volumes"] if "persistentVolumeClaim" in one]
    assert all(one in PODS[f"{pool}-worker"]["spec"]["volumes"] for one in claims)
    # The templates name ConfigMaps as they are called, so kustomize must not call them otherwise.
    assert KUSTOMIZATION["generatorOptions"] == {"disableNameSuffixHash": True}


def test_helm_values_name_the_same_servers_and_no_known_password() -> None:
    """Both charts come with passwords that everybody knows; their keys were checked by hand."""
    read = YAML(typ="safe").load
    server = read(INFRA / "helm" / "prefect-server.yaml")
    worker = read(INFRA / "helm" / "prefect-worker.yaml")["worker"]
    assert (server["nameOverride"], server["fullnameOverride"]) == ("prefect", "prefect")
    assert server["postgresql"] == {"enabled": False}
    database = server["externalDatabase"]
    assert database["existingSecret"] == "lcm-lora"
    assert database["passwordSecretKey"] in SECRETS
    told = {one["name"]: one.get("value") for one in CONTAINERS["prefect"]["env"]}
    assert told["PREFECT_SERVER_DATABASE_CONNECTION_URL"] == (
        "{driver}://{username}@{host}:{port}/{name}".format(**database)
    )
    there = worker["selfHostedServerApiConfig"]
    assert worker["apiConfig"] == "selfHostedServer"
    assert there["apiUrl"] == "http://prefect:4200/api"
    for auth in (server["server"]["basicAuth"], there["basicAuth"]):
        assert auth == {"enabled": True, "existingSecret": "prefect-auth"}
    assert worker["podLabels"] == {ROLE: "worker"}
