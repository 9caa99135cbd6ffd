"""What lies in deploy/kuberay: manifests that KubeRay and Kubernetes take, and commands that Nearfield takes."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from typer.main import get_command

from nearfield.cli import app
from nearfield.cli.terminal.setting_options import read_options
from nearfield.cluster.ray_runtime import MIN_VERSION
from nearfield.cluster.serving.serving_options import ServingOptions
from nearfield.server.auth.api_key import ApiKey
from nearfield.server.auth.key_file import append_key, create_key
from nearfield.setting_fields import describe_fields
from nearfield.settings import Settings, load_as, load_flags
from tests.support.paths import ROOT

KUBERAY, KUBERNETES = ROOT / "deploy" / "kuberay", ROOT / "deploy" / "kubernetes"
SCHEMAS = json.loads((ROOT / "tests" / "data" / "kuberay.json").read_text(encoding="utf-8"))
#: The first version of Kubernetes with ``preStop.sleep``.
VERSION = "1.30"
RESOURCES = ("cluster", "bulk")


def _read(name: str) -> Any:
    return yaml.safe_load((KUBERAY / f"{name}.yaml").read_text(encoding="utf-8"))


def _cluster_spec(name: str) -> Any:
    spec = _read(name)["spec"]
    return spec.get("rayClusterSpec", spec)


def _templates(name: str) -> Iterator[dict[str, Any]]:
    """Yield the pod templates of the head and of all groups of workers."""
    spec = _cluster_spec(name)
    yield spec["headGroupSpec"]["template"]
    for group in spec["workerGroupSpecs"]:
        yield group["template"]


@pytest.mark.parametrize("name", RESOURCES)
def test_resources_meet_the_schemas_of_kuberay(name: str) -> None:
    manifest = _read(name)
    schema = SCHEMAS[manifest["kind"]]
    jsonschema.validate(manifest, schema)
    manifest["spec"]["rayClusterVersion"] = "2.60.0"
    with pytest.raises(jsonschema.ValidationError, match="rayClusterVersion"):
        jsonschema.validate(manifest, schema)


@pytest.mark.parametrize("name", RESOURCES)
def test_pods_meet_the_schema_of_kubernetes(name: str) -> None:
    for template in _templates(name):
        manifest = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "pod"}, "template": template}
        kubernetes_validate.validate(manifest, VERSION, strict=True)
        spec = template["spec"]
        volumes = {volume["name"] for volume in spec["volumes"]}
        for container in spec["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["enableServiceLinks"] is False


def test_the_network_policy_meets_its_schema() -> None:
    policy = _read("network")
    kubernetes_validate.validate(policy, VERSION, strict=True)
    # KubeRay sets this label on all of its pods.
    assert policy["spec"]["podSelector"]["matchLabels"] == {"ray.io/is-ray-node": "yes"}


def test_one_version_of_ray_is_everywhere() -> None:
    (version,) = {_cluster_spec(name)["rayVersion"] for name in RESOURCES}
    assert f"'ray[default]=={version}'" in (KUBERAY / "Containerfile").read_text(encoding="utf-8")
    assert tuple(map(int, version.split(".")[:2])) >= MIN_VERSION


def test_the_controller_is_taken_and_fits_the_workers() -> None:
    head, workers = _templates("cluster")
    _, controller = head["spec"]["containers"]
    server, cluster = _options_of(controller["args"])
    cluster.check(server)
    (worker,) = workers["spec"]["containers"]
    assert cluster.engine_cpus == int(worker["resources"]["limits"]["cpu"])
    (group,) = _cluster_spec("cluster")["workerGroupSpecs"]
    assert group["replicas"] == cluster.engines + 1  # a rolling update needs room for one more
    assert (server.host, server.trusted_proxies) == ("0.0.0.0", ("*",))
    # All pods have the files that the settings of the fronts name.
    keys = next(mount for mount in worker["volumeMounts"] if mount["name"] == "keys")
    assert str(server.api_key_file) == f"{keys['mountPath']}/keys.toml"
    pause = worker["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert workers["spec"]["terminationGracePeriodSeconds"] >= pause + 3 * server.drain_timeout + 10


def test_the_controller_has_the_token_of_the_cluster() -> None:
    """KubeRay stores it in a secret with the name of the cluster, and passes it to the containers of Ray alone."""
    manifest = _read("cluster")
    assert manifest["spec"]["authOptions"] == {"mode": "token"}
    head, _ = _templates("cluster")
    _, controller = head["spec"]["containers"]
    variables = {each["name"]: each for each in controller["env"]}
    assert variables["RAY_AUTH_MODE"]["value"] == "token"
    secret = variables["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": manifest["metadata"]["name"], "key": "auth_token"}


def test_routers_find_the_fronts() -> None:
    """By the label, port and service of the servers of deploy/kubernetes."""
    _, workers = _templates("cluster")
    service = yaml.safe_load((KUBERNETES / "servers.yaml").read_text(encoding="utf-8"))
    assert service["spec"]["selector"].items() <= workers["metadata"]["labels"].items()
    (worker,) = workers["spec"]["containers"]
    assert worker["ports"] == [{"name": "http", "containerPort": Settings().port}]


def test_the_command_of_the_job_is_taken() -> None:
    job = _read("bulk")
    words = shlex.split(job["spec"]["entrypoint"])
    assert words[:2] == ["nearfield", "embed"]
    command = get_command(app).commands["embed"]  # type: ignore[attr-defined]
    values = command.make_context("embed", words[2:]).params
    _, workers = _templates("bulk")
    (worker,) = workers["spec"]["containers"]
    assert values["per_worker"] == f"cpus={worker['resources']['limits']['cpu']}"
    mounted = {mount["mountPath"] for mount in worker["volumeMounts"]}
    for path in (words[2], str(values["output"])):
        assert any(path.startswith(f"{mount}/") for mount in mounted), path


@pytest.mark.process
def test_kustomize_puts_the_ray_cluster_in_the_place_of_the_servers(tmp_path: Path) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed (Debian: apt-get install kubernetes-client)")
    home = shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    (home / "kubernetes" / "keys.toml").unlink(missing_ok=True)
    append_key(home / "kubernetes" / "keys.toml", ApiKey("me", b""), create_key()[1])
    done = subprocess.run([kubectl, "kustomize", home / "kuberay"], capture_output=True, text=True, check=True)
    built = list(yaml.safe_load_all(done.stdout))
    names = sorted(f"{manifest['kind']}/{manifest['metadata']['name']}" for manifest in built)
    assert [name for name in names if name.startswith(("Deployment/", "RayCluster/", "Horizontal", "PodDis"))] == [
        "Deployment/nearfield-router",
        "PodDisruptionBudget/nearfield-router",
        "RayCluster/nearfield",
    ]
    cluster = next(manifest for manifest in built if manifest["kind"] == "RayCluster")
    jsonschema.validate(cluster, SCHEMAS["RayCluster"])
    images = set(re.findall(r"image: (\S+)", yaml.safe_dump(cluster)))
    assert images == {"registry.example.com/nearfield-ray:latest"}
    assert {manifest["metadata"].get("namespace", "nearfield") for manifest in built} == {"nearfield"}


@pytest.mark.process
def test_the_containerfile_is_clean() -> None:
    lint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([lint, KUBERAY / "Containerfile"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def _options_of(arguments: list[str]) -> tuple[Settings, ServingOptions]:
    """Return the settings and options of ``nearfield cluster serve`` with these arguments."""
    assert arguments[:2] == ["cluster", "serve"]
    command = get_command(app).commands["cluster"].commands["serve"]  # type: ignore[attr-defined]
    values = command.make_context("serve", arguments[2:]).params
    server, cluster = describe_fields(Settings), describe_fields(ServingOptions)
    return (
        load_as(Settings, dict(read_options(server, values))),
        load_flags(ServingOptions, dict(read_options(cluster, values))),
    )
