"""A metric from another environment: the example as a real process, and every way to fail."""

from __future__ import annotations

import colorsys
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file
from seen import Looking

from lcm_lora.errors import UserError

EXAMPLE = Path(__file__).parents[2] / "docs" / "plugins" / "colourfulness.py"


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the Python of a fresh environment that holds Pillow and nothing else."""
    home = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home / "venv"], check=True)
    (packages,) = (home / "venv").glob("lib/python*/site-packages")
    ours = Path(PIL.__file__).parent
    for folder in (ours, ours.parent / "pillow.libs"):
        if folder.exists():
            (packages / folder.name).symlink_to(folder)
    return home / "venv" / "bin" / "python"


def test_the_example_runs_in_an_environment_of_its_own(
    elsewhere: Path, image_sets: Any, looking: Looking, pictures: NDArray[np.uint8]
) -> None:
    has_ours = subprocess.run([elsewhere, "-c", "import numpy"], check=False, capture_output=True)
    assert has_ours.returncode == 1
    command = (str(elsewhere), str(EXAMPLE))
    path = looking.at(image_sets(), plugins={"colourfulness": {"command": command}})
    found = load_file(path)["plugins/colourfulness"]
    assert found.dtype == np.float32
    r, g, b = (pictures[..., i].astype(float).reshape(24, -1) for i in range(3))
    rg, yb = r - g, (r + g) / 2 - b
    spread = np.sqrt(rg.var(1) + yb.var(1))
    wanted = spread + 0.3 * np.sqrt(rg.mean(1) ** 2 + yb.mean(1) ** 2)
    assert found == pytest.approx(wanted, rel=1e-5)
    record = json.loads(path.with_suffix(".json").read_text())["arrays"]
    assert record["plugins/colourfulness"]["name"] == "colourfulness"


def test_grey_has_no_colour_and_a_rainbow_much(elsewhere: Path, tmp_path: Path) -> None:
    from PIL import Image

    hues = [tuple(int(255 * c) for c in colorsys.hsv_to_rgb(i / 64, 1, 1)) for i in range(64)]
    rainbow = np.tile(np.array(hues, np.uint8), (8, 1, 1))
    Image.fromarray(np.full_like(rainbow, 90)).save(tmp_path / "00000000.png")
    Image.fromarray(rainbow).save(tmp_path / "00000001.png")
    lines = [json.dumps({"file": f"{i:08d}.png", "prompt": "x"}) for i in range(2)]
    (tmp_path / "prompts.jsonl").write_text("\n".join(lines))
    subprocess.run([elsewhere, EXAMPLE, tmp_path, tmp_path / "metrics.json"], check=True)
    grey, much = json.loads((tmp_path / "metrics.json").read_text())["values"]
    assert grey == 0
    assert much > 100


def plugin(tmp_path: Path, body: str, **more: Any) -> dict[str, Any]:
    """Return params of a plug-in named `mine` that runs these lines."""
    file = tmp_path / "mine.py"
    head = "import json, os, sys, time, subprocess\nfolder, metrics = sys.argv[1:]\n"
    file.write_text(head + body)
    # Without `site`, it starts in an instant and cannot see our packages.
    command = (sys.executable, "-S", "-I", str(file))
    return {"plugins": {"mine": {"command": command} | more}}


def write(values: str) -> str:
    return f"open(metrics, 'w').write({values!r})"


def test_it_finds_pictures_and_prompts_and_is_called_once(
    image_sets: Any, looking: Looking, tmp_path: Path
) -> None:
    body = (
        "lines = [json.loads(line) for line in open(folder + '/prompts.jsonl', encoding='utf-8')]\n"
        "sizes = [os.path.getsize(os.path.join(folder, line['file'])) for line in lines]\n"
        "assert sorted(os.listdir(folder))[:-1] == [line['file'] for line in lines]\n"
        f"open({str(tmp_path / 'calls')!r}, 'a').write('x')\n"
        "values = [len(line['prompt']) for line in lines]\n"
        "json.dump({'values': values, 'version': 'mine'}, open(metrics, 'w'))\n"
    )
    captions = tuple(f"ein grün{'e' * i}s Ding\n" for i in range(24))
    own = plugin(tmp_path, body) | {"attributes": False}
    for painter in ("adapter", "champion"):
        found = looking.at(image_sets(painter, captions=captions), painter, **own)
        assert load_file(found)["plugins/mine"].tolist() == [len(text) for text in captions]
    assert (tmp_path / "calls").read_text() == "x"
    own = plugin(tmp_path, f"{body}# changed") | {"attributes": False}
    looking.at(image_sets(captions=captions), **own)
    assert (tmp_path / "calls").read_text() == "xx"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("print('so far so good'); sys.exit('no weights\\n\\n')", r"code 1 \(no weights\); mend"),
        ("sys.exit(7)", r"ended with exit code 7; mend it"),
        ("os.kill(os.getpid(), 9)", r"ended by signal 9; mend it"),
        ("raise ValueError('a\\x1b[31mb')", r"exit code 1 \(ValueError: a\?\[31mb\)"),
        ("pass", r"wrote no metrics\.json; mend the command, see docs/plugins\.md"),
        ("os.mkdir(metrics)", r"wrote no metrics\.json"),
        (write("nonsense"), r"metrics\.json: damaged .*; see docs/plugins\.md"),
        (write("[]"), r"metrics\.json: damaged"),
        (write('{"value": []}'), r"metrics\.json: damaged .*values: Field required"),
        (write('{"values": [1, 2]}'), r"2 values for 24 pictures of adapter/steps-4_guidance-1"),
        (write(f'{{"values": [{"1, " * 23} NaN]}}'), r"values\.23: Input should be .*finite"),
        (write(f'{{"values": [{"1, " * 23} 1e39]}}'), r"values\.23: Input should be less"),
        (write(f'{{"values": [{"1, " * 23} "2"]}}'), r"values\.23: Input should be a valid number"),
        (write(f'{{"values": [{"1, " * 23} true]}}'), r"values\.23: Input should be a valid num"),
        (write(f'{{"values": [{"1, " * 23} null]}}'), r"values\.23: Input should be a valid num"),
    ],
)
def test_a_plugin_that_fails_or_writes_nonsense_is_one_line(
    body: str, message: str, image_sets: Any, looking: Looking, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=rf"^score\.plugins\.mine: .*{message}") as error:
        looking.at(image_sets(), **plugin(tmp_path, body))
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    assert not (looking.folder / "out").exists()


def test_a_command_that_is_not_there_is_named(image_sets: Any, looking: Looking) -> None:
    missing = {"mine": {"command": ("no-such-program", "x")}}
    with pytest.raises(UserError, match=r"mine: no-such-program cannot be run \(No such file"):
        looking.at(image_sets(), plugins=missing)


@pytest.mark.parametrize("ends", [True, False])
def test_nothing_of_a_plugin_survives(
    ends: bool, image_sets: Any, looking: Looking, tmp_path: Path
) -> None:
    """One that hangs is ended with its children, and so are the children of one that ends."""
    body = (
        "child = subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])\n"
        f"open({str(tmp_path / 'pids')!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        + (write(f'{{"values": [{"1, " * 23} 1]}}') if ends else "time.sleep(600)")
    )
    pids = tmp_path / "pids"
    if ends:
        looking.at(image_sets(), **plugin(tmp_path, body, seconds=60))
    for seconds in (3, 15, 60):  # a machine that stands still for a while starts it later
        if pids.exists() and pids.read_text():
            break
        with pytest.raises(UserError, match=f"mine: not done after {seconds} s; mend it, or raise"):
            looking.at(image_sets(), **plugin(tmp_path, body, seconds=seconds))
    for pid in pids.read_text().split():
        assert is_gone(int(pid))


def is_gone(pid: int) -> bool:
    """Tell whether a process is gone, or will be in a moment: an orphan waits for its burial."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    return False
