"""Who may import whom; read from the source, so that no import can hide behind a condition."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MATHEMATICS = ROOT / "lcm_lora" / "consistency"


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def offenders(room: Path, banned: tuple[str, ...]) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sorted(room.rglob("*.py"))
        for name in sorted(imported(path))
        if any(name == b or name.startswith(f"{b}.") for b in banned)
    ]


@pytest.mark.parametrize(
    ("room", "banned"),
    [
        ("lcm_lora", ("prefect", "mlflow", "dvc", "tasks", "flows")),
        ("tasks", ("flows",)),
        (
            "lcm_lora/consistency",
            ("lcm_lora.training", "lcm_lora.data", "lcm_lora.painting", "lcm_lora.bases"),
        ),
        ("lcm_lora/evaluation", ("lcm_lora.training", "lcm_lora.report", "lcm_lora.painting")),
        (
            "lcm_lora/seeing",
            ("lcm_lora.evaluation", "lcm_lora.painting", "lcm_lora.training", "lcm_lora.report"),
        ),
        ("lcm_lora/gate", ("lcm_lora.painting", "lcm_lora.training", "lcm_lora.report")),
        (
            "lcm_lora/data",
            ("lcm_lora.training", "lcm_lora.evaluation", "lcm_lora.report", "lcm_lora.inventory"),
        ),
        ("lcm_lora/params", ("lcm_lora.stages", "lcm_lora.data", "lcm_lora.check")),
        (
            "lcm_lora/families",
            ("lcm_lora.inventory", "lcm_lora.bases", "lcm_lora.data", "lcm_lora.training"),
        ),
        (
            "lcm_lora/inventory",
            ("lcm_lora.stages", "lcm_lora.bases", "lcm_lora.training", "lcm_lora.painting"),
        ),
        ("lcm_lora/combining", ("lcm_lora.painting", "lcm_lora.training", "lcm_lora.report")),
        ("lcm_lora/painting", ("lcm_lora.training", "lcm_lora.report", "lcm_lora.stages")),
        ("lcm_lora/training", ("lcm_lora.painting", "lcm_lora.evaluation", "lcm_lora.report")),
        ("lcm_lora/report", ("lcm_lora.mapping", "lcm_lora.transfer", "lcm_lora.stages")),
        (
            "lcm_lora/transfer",
            ("lcm_lora.report", "lcm_lora.mapping", "lcm_lora.evaluation", "lcm_lora.stages"),
        ),
        ("lcm_lora/mapping", ("lcm_lora.painting", "lcm_lora.training", "lcm_lora.stages")),
    ],
)
def test_arrows_point_down(room: str, banned: tuple[str, ...]) -> None:
    assert list((ROOT / room).rglob("*.py"))
    assert offenders(ROOT / room, banned) == []


TASKS = ("servers", "running", "tracking", "history", "registry", "champions", "isolated")
"""In the order of the README: a room may use those before it."""


def test_each_room_of_the_tasks_has_its_place() -> None:
    assert {path.parent.name for path in (ROOT / "tasks").glob("*/*.py")} == set(TASKS)
    assert [path.name for path in (ROOT / "tasks").glob("*.py")] == ["__init__.py"]


@pytest.mark.parametrize("room", TASKS)
def test_tasks_use_the_rooms_before_theirs(room: str) -> None:
    later = tuple(f"tasks.{other}" for other in TASKS[TASKS.index(room) + 1 :])
    assert offenders(ROOT / "tasks" / room, later) == []


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; sys.argv = ['lcm-lora', '--help']\n"
        "from lcm_lora.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'numpy', 'matplotlib', 'PIL', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_what_runs_alone_waits_for_no_network_to_load() -> None:
    """Nothing is beside these stages in a run, so that each of their seconds is one of its own."""
    program = (
        "import sys\n"
        "from lcm_lora.stages import decide, inventory, prepare, report, score\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'scipy'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_nothing_unpickles() -> None:
    """torch.load, pickle and their like are nowhere; TorchScript only behind a checked hash."""
    for path in (ROOT / "lcm_lora").rglob("*.py"):
        source = path.read_text()
        assert not imported(path) & {"pickle", "dill", "joblib", "cloudpickle"}, path
        assert "torch.load(" not in source, path
