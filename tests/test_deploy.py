"""What lies in deploy/: each file valid by the tool or schema of its kind, and true of the server."""

from __future__ import annotations

import getpass
import json
import os
import re
import shlex
import shutil
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import kubernetes_validate
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from typer.main import get_command

from nearfield import settings
from nearfield.cli import app
from nearfield.cli.terminal.setting_options import read_options
from nearfield.cluster.router.router_settings import RouterSettings
from nearfield.server.auth.api_key import ApiKey
from nearfield.server.auth.key_file import append_key, create_key
from nearfield.server.batches.batch_lines import MAX_BYTES
from nearfield.server.lifecycle.listener import KEEP_ALIVE_SECONDS
from nearfield.setting_fields import describe_fields
from nearfield.settings import load_flags
from nearfield.testing import tiny_encoder, write_tiny_model
from tests.support.paths import ROOT
from tests.support.serving import Process, serving

DEPLOY = ROOT / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
MANIFESTS = sorted(path for path in KUBERNETES.glob("*.yaml") if path.name != "kustomization.yaml")
TEXTS = {
    path.relative_to(DEPLOY).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted(DEPLOY.rglob("*"))
    if path.is_file() and path.suffix != ".pyc" and path.name != "keys.toml"
}
TEXTS["the guide"] = (ROOT / "docs" / "guides" / "deploy.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent
#: The versions whose schemas the manifests must meet: the first with ``preStop.sleep``, and a late one.
VERSIONS = ("1.30", "1.36")


#: Programs that come from no Python index, and the packages of Debian that have them.
PACKAGES = {
    "kubectl": "kubernetes-client",
    "nginx": "nginx-light",
    "openssl": "openssl",
    "promtool": "prometheus",
    "systemd-analyze": "systemd",
}


def tool(name: str) -> str:
    """Return where a program of the system is, or skip."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if found is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {PACKAGES[name]})")
    return found


def ran(*command: object, **options: Any) -> str:
    """Run a tool that must succeed; return what it said."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def read(name: str) -> Any:
    """Read a YAML file of ours."""
    return yaml.safe_load(TEXTS[name])


def container() -> dict[str, Any]:
    """Return the container of the deployment."""
    (only,) = read("kubernetes/deployment.yaml")["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


# -- by the tools and schemas of each kind -----------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in TEXTS if name.endswith(".yaml")])
def test_yaml_has_no_key_twice(name: str) -> None:
    waiting = [yaml.compose(TEXTS[name], yaml.SafeLoader)]
    assert isinstance(waiting[0], yaml.MappingNode)
    while waiting:
        node = waiting.pop()
        if isinstance(node, yaml.MappingNode):
            keys = [key.value for key, _ in node.value]
            assert len(keys) == len(set(keys)), keys
            waiting += [value for _, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            waiting += node.value


@pytest.mark.process
def test_the_containerfile_is_clean() -> None:
    assert ran(BIN / "hadolint", DEPLOY / "Containerfile") == ""


@pytest.mark.process
def test_compose_meets_its_specification() -> None:
    ran(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: path.stem)
def test_manifests_meet_their_schemas(path: Path, version: str) -> None:
    for manifest in yaml.safe_load_all(path.read_text(encoding="utf-8")):
        kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.process
def test_kustomize_builds_what_meets_the_schemas(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    kubectl = tool("kubectl")
    home = shutil.copytree(KUBERNETES, tmp_path / "kubernetes")
    (home / "keys.toml").unlink(missing_ok=True)
    refused = subprocess.run([kubectl, "kustomize", home], capture_output=True, text=True, check=False)
    assert refused.returncode and "keys.toml" in refused.stderr  # without keys nothing is applied
    _, key_hash = create_key()
    append_key(home / "keys.toml", ApiKey("me", b""), key_hash)
    text = (home / "kustomization.yaml").read_text(encoding="utf-8")
    with_monitoring = text.replace("# components:\n#   - monitoring", "components:\n  - monitoring")
    assert with_monitoring != text
    (home / "kustomization.yaml").write_text(with_monitoring, encoding="utf-8")
    built = list(yaml.safe_load_all(ran(kubectl, "kustomize", home)))
    kinds = {manifest["kind"] for manifest in built}
    assert kinds == {
        "Namespace",
        "Secret",
        "PersistentVolumeClaim",
        "Deployment",
        "Service",
        "PodDisruptionBudget",
        "HorizontalPodAutoscaler",
        "NetworkPolicy",
        "ServiceMonitor",
    }
    for manifest in built:
        if manifest["kind"] != "ServiceMonitor":  # its schema comes with its operator
            kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
        assert manifest["kind"] == "Namespace" or manifest["metadata"]["namespace"] == "nearfield"


@pytest.mark.process
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    analyze = tool("systemd-analyze")
    unit = tmp_path / "nearfield.service"
    unit.write_text(TEXTS["nearfield.service"].replace("/opt/nearfield/bin", str(BIN)), encoding="utf-8")
    assert ran(analyze, "verify", "--man=no", unit) == ""
    report = ran(analyze, "security", "--offline=true", "--threshold=20", unit)
    assert "Overall exposure level for nearfield.service" in report


@pytest.mark.process
def test_promtool_takes_the_alerts_and_the_scrape(tmp_path: Path) -> None:
    promtool = tool("promtool")
    ran(promtool, "check", "rules", DEPLOY / "alerts.yaml")
    for name in ("prometheus.yaml", "alerts.yaml"):
        text = TEXTS[name].replace("/etc/prometheus/nearfield.key", str(tmp_path / "key"))
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "key").write_text("nf-key", encoding="utf-8")
    ran(promtool, "check", "config", tmp_path / "prometheus.yaml")


# -- settings, flags, commands ---------------------------------------------------------------------------------


def _environment() -> Iterator[tuple[str, dict[str, str]]]:
    """Yield the variables of ours that each way of running sets."""
    containerfile = dict(re.findall(r"(NEARFIELD_[A-Z_]+)=(\S+)", TEXTS["Containerfile"]))
    yield "Containerfile", containerfile
    yield "compose", containerfile | read("compose.yaml")["services"]["nearfield"]["environment"]
    yield "kubernetes", containerfile | {each["name"]: each["value"] for each in container()["env"]}
    yield "systemd", dict(re.findall(r"(NEARFIELD_[A-Z_]+)=(\S+)", TEXTS["nearfield.service"]))


@pytest.mark.parametrize(
    ("name", "given"), list(_environment()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_settings_are_taken(name: str, given: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in [variable for variable in os.environ if variable.startswith("NEARFIELD_")]:
        monkeypatch.delenv(variable)
    for variable, value in given.items():
        assert isinstance(value, str), f"{variable} must be quoted"
        monkeypatch.setenv(variable, value)
    loaded = settings.load()
    assert loaded.drain_timeout == 30
    assert loaded.port == 8080
    assert (loaded.host == "0.0.0.0") == (name != "systemd")
    assert (loaded.api_key_file is not None) == (name != "Containerfile")
    assert loaded.api_key_file is None or loaded.api_key_file.suffix == ".toml"
    assert loaded.data_dir is not None


def test_every_setting_that_is_named_exists() -> None:
    known = {f"NEARFIELD_{name.upper()}" for name in settings.Settings.__struct_fields__} | settings.ELSEWHERE
    for name, text in TEXTS.items():
        # NEARFIELD_PORT=tcp://... is what Kubernetes would set; the file says so.
        named = set(re.findall(r"\bNEARFIELD_[A-Z_]*[A-Z]", text))
        assert named <= known, f"{name}: {named - known}"


def test_every_flag_of_serve_exists() -> None:
    serve = get_command(app).commands["serve"]  # type: ignore[attr-defined]
    flags = {name for parameter in serve.params for name in parameter.opts}
    assert {"--host", "--trusted-proxy", "--api-key-file"} <= flags
    seen = 0
    for name, text in TEXTS.items():
        for words in re.findall(r"nearfield serve((?: +[-\w./:*,]+)*)", text):
            used = {word for word in words.split() if word.startswith("--")}
            seen += len(used)
            assert used <= flags, f"{name}: {used - flags}"
    assert seen >= 4


def test_every_command_of_the_page_exists() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    lines = re.findall(
        r"^(?:\$|#) (?:/opt/nearfield/bin/)?nearfield (.+?)(?: && .*)?$", "\n".join(TEXTS.values()), re.M
    )
    assert len(lines) >= 6
    for line in lines:
        words = shlex.split(line)
        if words[0] not in commands:
            continue  # a comment that begins with the name
        command, words = commands[words[0]], words[1:]
        if hasattr(command, "commands"):
            command, words = command.commands[words[0]], words[1:]
        command.make_context("nearfield", words)


def test_files_that_are_named_exist() -> None:
    page = TEXTS["README.md"]
    for name in re.findall(r"^\| (`.+?) \|", page, re.M):
        for file in re.findall(r"`([\w./-]+)`", name):
            assert file.startswith("/") or (DEPLOY / file).exists(), file
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page):
        assert (DEPLOY / target).exists(), target
    for line in re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M):
        assert (ROOT / line).exists(), line
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", TEXTS["Containerfile"], re.M)
    allowed = re.findall(r"^!(\S+)", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.M)
    assert sorted(" ".join(copied).split()) == sorted(allowed)  # neither more nor less than is needed
    for resource in read("kubernetes/kustomization.yaml")["resources"]:
        assert (KUBERNETES / resource).exists()
    assert {path.name for path in MANIFESTS} == set(read("kubernetes/kustomization.yaml")["resources"])


# -- times, ports, names that must agree -----------------------------------------------------------------------


def test_a_stop_has_the_time_it_takes() -> None:
    longest = 3 * 30  # connections, requests, engine: each is given the drain timeout
    unit = _unit()
    assert unit["Service"]["TimeoutStopSec"] == "100"
    assert read("compose.yaml")["services"]["nearfield"]["stop_grace_period"] == "100s"
    spec = read("kubernetes/deployment.yaml")["spec"]["template"]["spec"]
    pause = container()["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert min(100, spec["terminationGracePeriodSeconds"] - pause) > longest


def test_nginx_allows_what_the_server_allows() -> None:
    text = TEXTS["nginx.conf"]
    defaults = settings.Settings()
    (first, files) = map(int, re.findall(r"client_max_body_size (\d+)m;", text))
    assert first * 2**20 == defaults.max_body_bytes
    assert MAX_BYTES < files * 2**20 <= MAX_BYTES + 2**20
    for seconds in re.findall(r"proxy_(?:read|send)_timeout (\d+)s;", text):
        assert int(seconds) > defaults.request_timeout
    idle = int(next(iter(re.findall(r"keepalive_timeout (\d+)s;", text))))
    assert idle < KEEP_ALIVE_SECONDS


def test_ports_agree() -> None:
    port = settings.Settings().port
    service = read("compose.yaml")["services"]["nearfield"]
    assert service["ports"] == [f"127.0.0.1:{port}:{port}"]
    assert re.search(rf"^EXPOSE {port}$", TEXTS["Containerfile"], re.M)
    assert container()["ports"] == [{"name": "http", "containerPort": port}]
    assert [each["targetPort"] for each in read("kubernetes/service.yaml")["spec"]["ports"]] == ["http"]
    assert [each["name"] for each in read("kubernetes/service.yaml")["spec"]["ports"]] == ["http"]
    monitor = read("kubernetes/monitoring/servicemonitor.yaml")["spec"]
    assert [each["port"] for each in monitor["endpoints"]] == ["http"]
    assert f"server 127.0.0.1:{port};" in TEXTS["nginx.conf"]
    assert read("prometheus.yaml")["scrape_configs"][0]["static_configs"] == [{"targets": [f"127.0.0.1:{port}"]}]
    network = read("kubernetes/network.yaml")["spec"]["ingress"]
    assert [rule["ports"] for rule in network] == [[{"port": "http"}]]


def test_names_in_the_cluster_agree() -> None:
    label = {"app.kubernetes.io/name": "nearfield"}
    deployment = read("kubernetes/deployment.yaml")["spec"]
    pod = deployment["template"]["spec"]
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"] == label
    assert read("kubernetes/servers.yaml")["spec"]["selector"] == label
    assert read("kubernetes/servers.yaml")["metadata"]["labels"] == label  # the monitor finds it by these
    for name in ("disruption", "monitoring/servicemonitor"):
        assert read(f"kubernetes/{name}.yaml")["spec"]["selector"]["matchLabels"] == label
    assert read("kubernetes/network.yaml")["spec"]["podSelector"]["matchLabels"] == label
    assert read("kubernetes/autoscaler.yaml")["spec"]["scaleTargetRef"]["name"] == "nearfield"
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    assert {mount["name"] for mount in container()["volumeMounts"]} == set(volumes)
    assert volumes["cache"]["persistentVolumeClaim"]["claimName"] == read("kubernetes/cache.yaml")["metadata"]["name"]
    (secret,) = read("kubernetes/kustomization.yaml")["secretGenerator"]
    assert volumes["keys"]["secret"]["secretName"] == secret["name"]
    keys = next(mount for mount in container()["volumeMounts"] if mount["name"] == "keys")
    (file,) = [each["value"] for each in container()["env"] if each["name"] == "NEARFIELD_API_KEY_FILE"]
    assert file == f"{keys['mountPath']}/{secret['files'][0]}"
    # For a service of this name the cluster would set NEARFIELD_PORT to an address.
    assert pod["enableServiceLinks"] is False


def test_the_router_of_the_cluster_finds_the_servers() -> None:
    label = {"app.kubernetes.io/name": "nearfield-router"}
    deployment = read("kubernetes/router.yaml")["spec"]
    assert deployment["selector"]["matchLabels"] == deployment["template"]["metadata"]["labels"] == label
    for name in ("router-disruption", "monitoring/router"):
        assert read(f"kubernetes/{name}.yaml")["spec"]["selector"]["matchLabels"] == label
    service = read("kubernetes/service.yaml")
    assert service["spec"]["selector"] == service["metadata"]["labels"] == label
    (router,) = deployment["template"]["spec"]["containers"]
    options = _options_of_route(router["args"])
    servers = read("kubernetes/servers.yaml")
    (port,) = [each["port"] for each in servers["spec"]["ports"]]
    assert servers["spec"]["clusterIP"] == "None"  # a name with the addresses of all pods
    assert options.to == (f"http://{servers['metadata']['name']}:{port}",)
    assert router["ports"] == [{"name": "http", "containerPort": options.port}]
    assert options.host == "0.0.0.0" and options.reply_timeout > settings.Settings().request_timeout
    # The drain, what remains after it, and the pause before.
    pause = router["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert deployment["template"]["spec"]["terminationGracePeriodSeconds"] >= pause + options.drain_timeout + 10
    keys = next(mount for mount in router["volumeMounts"] if mount["name"] == "keys")
    assert str(options.api_key_file) == f"{keys['mountPath']}/keys.toml"
    # The servers believe the router, and nothing else reaches them but Prometheus.
    (rule,) = read("kubernetes/network.yaml")["spec"]["ingress"]
    assert [peer["podSelector"]["matchLabels"] for peer in rule["from"] if "podSelector" in peer] == [label]
    assert read("kubernetes/router-network.yaml")["spec"]["podSelector"]["matchLabels"] == label
    assert router["securityContext"] == container()["securityContext"]


def _options_of_route(arguments: list[str]) -> RouterSettings:
    """Return the options of ``nearfield route`` with these arguments."""
    assert arguments[0] == "route"
    command = get_command(app).commands["route"]  # type: ignore[attr-defined]
    values = command.make_context("route", arguments[1:]).params
    return load_flags(RouterSettings, dict(read_options(describe_fields(RouterSettings), values)))


def test_nothing_may_do_more_than_it_must() -> None:
    service = read("compose.yaml")["services"]["nearfield"]
    assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["secrets"][0]["source"] in read("compose.yaml")["secrets"]
    file = service["environment"]["NEARFIELD_API_KEY_FILE"]
    assert file == f"/run/secrets/{service['secrets'][0]['target']}"
    assert {mount.partition(":")[0] for mount in service["volumes"]} == set(read("compose.yaml")["volumes"])
    pod = read("kubernetes/deployment.yaml")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    user = pod["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}" in TEXTS["Containerfile"]
    assert container()["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    # What is written to is mounted, in both.
    written = set(re.findall(r'"(/var/[a-z/]+)"', TEXTS["Containerfile"]))
    assert len(written) == 2
    assert written == {mount.partition(":")[2] for mount in service["volumes"]}
    assert written | {"/tmp"} <= {mount["mountPath"] for mount in container()["volumeMounts"]}
    unit = _unit()["Service"]
    assert unit["DynamicUser"] == "yes" and unit["ProtectSystem"] == "strict" and unit["Restart"] == "on-failure"
    assert "MemoryDenyWriteExecute" not in unit  # kernels are compiled at run time


def test_the_image_has_no_torch() -> None:
    assert re.findall(r"pip install (.+)", TEXTS["Containerfile"]) == [
        "--no-cache-dir -c constraints.txt hatchling \\",
        "--no-cache-dir -c constraints.txt /tmp/wheel/*.whl",
    ]


def _unit() -> ConfigParser:
    unit = ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read_string(TEXTS["nearfield.service"])
    return unit


# -- a server that runs ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """A server that has answered a request, and the metrics it then shows: labels by the name of each sample."""

    url: str
    samples: Mapping[str, frozenset[str]]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """One with a cache, which no other test's server has."""
    folder = tmp_path_factory.mktemp("deploy") / "tiny"
    with tiny_encoder(folder) as encoder, serving([encoder], cache_memory="1MiB") as url:
        for text in ("cat", "cat " * 100):
            assert httpx.post(url + "/v1/embeddings", json={"model": "tiny", "input": text}).status_code == 200
        found: dict[str, set[str]] = {}
        for family in text_string_to_metric_families(httpx.get(url + "/metrics").text):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
        yield Running(url, {name: frozenset(labels) for name, labels in found.items()})


def _expressions() -> Iterator[tuple[str, str]]:
    board = json.loads(TEXTS["grafana.json"])
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], target["expr"]
    for rule in read("alerts.yaml")["groups"][0]["rules"]:
        yield rule["alert"], rule["expr"]


def _parsed(expression: str) -> Any:
    return promql_parser.parse(re.sub(r"\$__rate_interval", "5m", expression))


def _selectors(node: Any) -> Iterator[Any]:
    """Yield every selector of series in a query."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    elif isinstance(node, promql_parser.MatrixSelector):
        yield node.vector_selector
    for name in ("expr", "lhs", "rhs", "param"):
        if getattr(node, name, None) is not None:
            yield from _selectors(getattr(node, name))
    for each in getattr(node, "args", None) or ():
        yield from _selectors(each)


def _groupings(node: Any) -> Iterator[str]:
    """Yield every label that a query groups by."""
    if isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
        yield from node.modifier.labels
    for name in ("expr", "lhs", "rhs", "param"):
        if getattr(node, name, None) is not None:
            yield from _groupings(getattr(node, name))
    for each in getattr(node, "args", None) or ():
        yield from _groupings(each)


#: What Prometheus adds to each sample, and the one series that it makes itself.
_TARGET, _UP = {"job", "instance"}, "up"


@pytest.mark.network
@pytest.mark.parametrize(
    ("title", "expression"), list(_expressions()), ids=lambda value: re.sub(r"\W+", "-", value)[:30]
)
def test_every_query_is_about_what_is_exported(running: Running, title: str, expression: str) -> None:
    selectors = list(_selectors(_parsed(expression)))
    assert selectors, expression
    labels = set(_TARGET)
    for selector in selectors:
        if selector.name != _UP:
            assert selector.name in running.samples, f"{title}: {selector.name}"
            labels |= running.samples[selector.name]
        own = running.samples.get(selector.name, frozenset()) | _TARGET
        matched = {matcher.name for matcher in selector.matchers.matchers}
        assert matched <= own, f"{title}: {selector.name} has no {matched - own}"
    assert set(_groupings(_parsed(expression))) <= labels, title


@pytest.mark.network
def test_the_dashboard_shows_every_metric(running: Running) -> None:
    board = json.loads(TEXTS["grafana.json"])
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    cells = [
        (x, y)
        for panel in board["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    ]
    assert len(cells) == len(set(cells)) and max(x for x, _ in cells) < 24  # no panel lies on another
    variables = {each["name"] for each in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"])))
    assert used <= variables | {"__rate_interval"}
    for query in (each["query"]["query"] for each in board["templating"]["list"] if each["type"] == "query"):
        name, label = re.findall(r"^label_values\((\w+).*, (\w+)\)$", query)[0]
        assert label in running.samples[name] | _TARGET
    shown = {selector.name for _, text in _expressions() for selector in _selectors(_parsed(text))}
    bases = {re.sub(r"_(bucket|sum|count|created)$", "", name) for name in running.samples}
    missing = {base for base in bases if not any(name.startswith(base) for name in shown)}
    assert missing <= {"nearfield_queue_inputs"}  # shown as one number, nearfield_queue_depth


@pytest.mark.network
def test_every_path_that_is_asked_for_exists(running: Running) -> None:
    probes = [container()[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert {probe["port"] for probe in probes} == {"http"}
    assert [probe["path"] for probe in probes] == ["/ready", "/ready", "/health"]
    paths = {probe["path"] for probe in probes}
    paths |= {read("prometheus.yaml")["scrape_configs"][0]["metrics_path"]}
    paths |= {each["path"] for each in read("kubernetes/monitoring/servicemonitor.yaml")["spec"]["endpoints"]}
    paths |= set(re.findall(r"route!~\"(.+?)\"", TEXTS["alerts.yaml"])[0].split("|"))
    assert paths == {"/ready", "/health", "/metrics"}
    for path in paths:
        assert httpx.get(running.url + path).status_code == 200
    told = httpx.get(running.url + "/openapi.json").json()["paths"]
    for path in re.findall(r"location = (\S+) \{", TEXTS["nginx.conf"]):
        assert path in told, path


@pytest.mark.network
def test_the_autoscaler_reads_a_gauge_of_the_server(running: Running) -> None:
    (metric,) = read("kubernetes/autoscaler.yaml")["spec"]["metrics"]
    name = metric["pods"]["metric"]["name"]
    assert name in running.samples
    (rule,) = read("prometheus-adapter.yaml")["rules"]["custom"]
    assert rule["name"]["as"] == name and rule["seriesQuery"].startswith(name + "{")


@pytest.mark.network
@pytest.mark.process
def test_the_health_check(tmp_path: Path, running: Running) -> None:
    def check(port: int | str, **more: str) -> subprocess.CompletedProcess[str]:
        given = {"NEARFIELD_PORT": str(port), "PATH": os.environ["PATH"], **more}
        command = [sys.executable, "-I", str(DEPLOY / "ready.py")]
        return subprocess.run(command, env=given, capture_output=True, text=True, check=False)

    port = running.url.rpartition(":")[2]
    assert check(port).returncode == 0
    assert check(port, http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9").returncode == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        missed = check(free.getsockname()[1])
    assert missed.returncode == 1 and missed.stderr.startswith("not ready: ") and "Traceback" not in missed.stderr
    assert check(port, NEARFIELD_TLS_CERT="cert.pem").returncode == 1  # no TLS is spoken there
    assert "/opt/nearfield/ready.py" in TEXTS["Containerfile"]
    assert read("compose.yaml")["services"]["nearfield"]["healthcheck"]["test"][-1] == "/opt/nearfield/ready.py"


@pytest.mark.network
def test_metrics_need_a_key_where_there_are_keys(tmp_path: Path, running: Running) -> None:
    key, key_hash = create_key()
    append_key(tmp_path / "keys.toml", ApiKey("prometheus", b""), key_hash)
    file = tmp_path / "keys.toml"
    with tiny_encoder(tmp_path / "tiny") as encoder, serving([encoder], api_key_file=file) as url:
        assert httpx.get(url + "/metrics").status_code == 401
        assert httpx.get(url + "/metrics", headers={"authorization": f"Bearer {key}"}).status_code == 200
        assert httpx.get(url + "/ready").status_code == httpx.get(url + "/health").status_code == 200


@pytest.mark.process
def test_behind_nginx(tmp_path: Path) -> None:
    nginx, openssl = tool("nginx"), tool("openssl")
    pair = ("-keyout", tmp_path / "privkey.pem", "-out", tmp_path / "fullchain.pem")
    ran(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1", *pair)
    key, key_hash = create_key()
    append_key(tmp_path / "keys.toml", ApiKey("me", b""), key_hash)
    write_tiny_model(tmp_path / "tiny")
    flags = ("--api-key-file", str(tmp_path / "keys.toml"), "--trusted-proxy", "127.0.0.1")
    server = Process(tmp_path / "tiny", *flags, NEARFIELD_CACHE=str(tmp_path / "cache"))
    plain, secure = _free(), _free()
    config = tmp_path / "nginx.conf"
    text = TEXTS["nginx.conf"]
    for old, new in {
        # Its workers may write where this test may: bodies go through files.
        "worker_processes auto;": f"worker_processes 1; user {getpass.getuser()};",
        "/etc/nginx/tls": str(tmp_path),
        "/var/log/nginx": str(tmp_path),
        "/run/nginx.pid": f"{tmp_path}/nginx.pid",
        "listen 80;": f"listen 127.0.0.1:{plain};",
        "listen 443 ssl;": f"listen 127.0.0.1:{secure} ssl;",
        "server 127.0.0.1:8080;": f"server 127.0.0.1:{server.port};",
        "http {": f"http {{ client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy; "
        f"fastcgi_temp_path {tmp_path}/f; uwsgi_temp_path {tmp_path}/u; scgi_temp_path {tmp_path}/s;",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    config.write_text(text, encoding="utf-8")
    command = [nginx, "-p", str(tmp_path), "-c", str(config), "-e", str(tmp_path / "errors")]
    ran(*command, "-t")
    proxy = subprocess.Popen([*command, "-g", "daemon off;"], stderr=subprocess.DEVNULL)
    trust = ssl.create_default_context(cafile=str(tmp_path / "fullchain.pem"))
    trust.check_hostname = False
    headers = {"authorization": f"Bearer {key}"}
    try:
        with httpx.Client(base_url=f"https://127.0.0.1:{secure}", verify=trust, headers=headers, timeout=60) as client:
            _wait_for(client)
            body = {"model": "tiny", "input": "cat"}
            assert client.post("/v1/embeddings", json=body).status_code == 200
            assert client.post("/v1/embeddings", json=body, headers={"authorization": ""}).status_code == 401
            assert client.get("/metrics").status_code == 404
            # At the limit the server's own answer is seen, above it nginx's.
            large = client.post(
                "/v1/embeddings", content=b" " * (32 * 2**20), headers={"content-type": "application/json"}
            )
            assert large.headers["content-type"] == "application/json"
            larger = client.post("/v1/embeddings", content=b" " * (32 * 2**20 + 1))
            assert larger.status_code == 413 and "nginx" in larger.text
            moved = httpx.get(f"http://127.0.0.1:{plain}/v1/models")
            assert moved.status_code == 308 and moved.headers["location"] == "https://127.0.0.1/v1/models"
    finally:
        proxy.terminate()
        proxy.wait(20)
        server.terminate()
        server.wait()


def _free() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port


def _wait_for(client: httpx.Client) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            assert client.get("/ready").status_code == 200
        except httpx.ConnectError:
            assert time.monotonic() < until, "nginx did not start"
            time.sleep(0.02)
        else:
            return
