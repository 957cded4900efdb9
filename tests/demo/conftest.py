"""A project whose adapter and champion were trained for two steps and for one."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browsers import CHROMIUM
from demos import OTHER_STYLE, STYLE, VERSION, Server, serving
from making import CPU, make_adapter, shapes_base
from ruamel.yaml import YAML
from styles import write_style_of

from lcm_lora.candidates import candidate_name
from lcm_lora.champion import write_champion
from lcm_lora.champion_record import Champion
from lcm_lora.hashes import Hashes
from lcm_lora.painting.subject import Subject
from lcm_lora.params.distill import Candidates
from lcm_lora.params.generate import Generate
from lcm_lora.params.reading import load_section
from lcm_lora.recipe import read_recipe
from lcm_lora.showing.asked import subjects_of
from lcm_lora.showing.easel import Easel
from lcm_lora.stages import inventory
from lcm_lora.stages.generate import PLACES

ROOT = Path(__file__).parents[2]

collect_ignore = [] if CHROMIUM else ["test_page.py"]


@pytest.fixture(scope="session")
def project(data: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder, after all stages that the demo needs. Read only."""
    folder = tmp_path_factory.mktemp("demo")
    small = YAML(typ="safe").load(ROOT / "params.yaml")
    small["prepare"] |= {"held_out": 0.3, "selection": 0.15}
    small["prepare"]["source"]["count"] = 100
    small["evaluation"] |= {"prompts": 12, "selection": 8}
    small["transfer"] |= {"prompts": 12, "subjects": {"drawn": {"adapters": {STYLE: 0.8}}}}
    for seed, file in enumerate((STYLE, OTHER_STYLE)):
        write_style_of(shapes_base().pipeline, folder / file, seed)
    (folder / "params.yaml").write_text(json.dumps(small))  # which is YAML too
    with contextlib.chdir(folder):
        inventory.run()
    shutil.copytree(data / "data" / "evaluation", folder / "data" / "evaluation")
    every = Candidates(first=1, every=1)
    last = make_adapter(folder / "made", cache, steps=2, rank=4, warm_up=0, candidates=every)
    shutil.copytree(last, folder / "artifacts" / "adapter")
    first = last.parent / candidate_name(1)
    champion = Champion(version=VERSION, weights_sha256=read_recipe(first).weights_sha256)
    write_champion(folder / "data" / "champion", champion, first)
    return folder


@pytest.fixture
def there(project: Path) -> Iterator[Path]:
    """The project's folder, as the working folder."""
    with contextlib.chdir(project):
        yield project


@pytest.fixture(scope="session")
def params(project: Path) -> Generate:
    return load_section(project / "params.yaml", Generate)


@pytest.fixture(scope="session")
def subjects(project: Path, params: Generate) -> dict[str, Subject]:
    """Who the adapter, the champion, the teacher and a rival are."""
    names = ("adapter", "champion", "teacher", "dpmpp")
    with contextlib.chdir(project), Hashes(project / "hashes.sqlite") as hashes:
        found = subjects_of(names, params, PLACES, hashes)
    return {
        name: Subject(
            subject.base,
            tuple(
                type(adapter)(project / adapter.file, adapter.sha256, adapter.weight)
                for adapter in subject.adapters
            ),
            subject.lcm_config,
        )
        for name, subject in found.items()
    }


@pytest.fixture(scope="session")
def easel(params: Generate, subjects: dict[str, Subject]) -> Easel:
    """With all models loaded."""
    easel = Easel(params, CPU, 32, subjects)
    easel.load()
    return easel


@pytest.fixture(scope="session")
def server(project: Path) -> Iterator[Server]:
    with serving(project, "--style", f"other one={OTHER_STYLE}") as server:
        yield server
