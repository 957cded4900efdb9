"""Parameters: presets that hold, and wrong ones that are named in one line, however wrong."""

import copy
import datetime
import json
import os
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mlflow.utils.validation import _validate_experiment_name, _validate_model_name
from pydantic import ValidationError
from ruamel.yaml import YAML

from lcm_lora.check import check_params
from lcm_lora.code import closure
from lcm_lora.errors import UserError
from lcm_lora.params.distill import Distill
from lcm_lora.params.file import Params, load_params
from lcm_lora.params.generate import ADAPTER, CHAMPION, REAL, TEACHER, Cell, Generate, cell_id
from lcm_lora.params.reading import load_section, parse
from lcm_lora.params.registry import Registry
from lcm_lora.params.report import Report

ROOT = Path(__file__).parent.parent
PRESETS = sorted((ROOT / "lcm_lora" / "presets").glob("*.yaml"))
SHAPES = (ROOT / "params.yaml").read_text()
# Through JSON, so that cells of several painters are no longer one and the same.
RAW = json.loads(json.dumps(YAML(typ="safe").load(SHAPES)))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_holds(path: Path) -> None:
    params = load_params(path)
    assert 1000 % params.distill.grid == 0
    assert params.prepare.resolution % 8 == 0
    # The adapter and every solver meet at equal cost, which the paired comparison needs.
    generate = params.generate
    costs = {n: {cell.nfe for cell in generate.painter(n).cells} for n in generate.names}
    assert {1, 2, 4} <= costs[ADAPTER] & costs["ddim"] & costs["dpmpp"] & costs["unipc"]
    # What all are compared with is of other noise; and the gate judges what is painted.
    assert {cell.seeds for cell in generate.painter(TEACHER).cells} == {0, 1}
    assert {gate.steps for gate in params.registry.gate} <= {
        c.steps for c in generate.adapter.cells
    }


def test_the_project_starts_with_the_shapes_preset() -> None:
    assert (ROOT / "lcm_lora" / "presets" / "shapes.yaml").read_text() == SHAPES


def test_dvc_paints_and_measures_every_painter_that_the_parameters_name() -> None:
    """The painters with a role have stages of their own; all others are what params.yaml says."""
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    for command in ("generate", "features"):
        named = {
            name.partition("-")[2]: s for name, s in stages.items() if name.startswith(command)
        }
        single = {name for name, stage in named.items() if "foreach" not in stage}
        assert single == {ADAPTER, CHAMPION} | ({REAL} if command == "features" else set())
        for name in single:
            assert named[name]["cmd"] == f"lcm-lora {command} {name}"
        groups = {
            stage["foreach"]: stage["do"]["cmd"] for n, stage in named.items() if n not in single
        }
        assert groups == {
            "${generate.painters}": f"lcm-lora {command} ${{key}}",
        }


def test_a_section_is_read_without_the_others() -> None:
    """A new parameter of the report changes no code that another stage runs."""
    sections = {name for name in RAW if (ROOT / "lcm_lora" / "params" / f"{name}.py").is_file()}
    assert sections == set(RAW) == set(Params.model_fields)
    assert not {path.stem for path in closure("lcm_lora.params.reading")} & sections
    # The adapter elsewhere is painted and measured as it is here.
    built_on = {"transfer": {"generate", "score"}}
    for name in sections:
        own = {name} | built_on.get(name, set())
        assert {path.stem for path in closure(f"lcm_lora.params.{name}")} & sections == own
        model = Params.model_fields[name].annotation
        assert isinstance(model, type)
        assert load_section(ROOT / "params.yaml", model) == getattr(
            load_params(ROOT / "params.yaml"), name
        )


def rename(old: str, new: str) -> Callable[[Any], object]:
    return lambda section: section.update({new: section.pop(old)})


def reserved(name: str) -> Callable[[Any], object]:
    """Give the name of a painter to a copy of one."""
    return lambda p: p["generate"]["painters"].update({name: p["generate"]["painters"]["ddim"]})


WRONG: list[tuple[Callable[[Any], object], str]] = [
    (
        lambda p: p["distill"].update(lerning_rate=1),
        r"distill\.lerning_rate: no such parameter; did you mean `learning_rate`\?",
    ),
    (rename("distill", "distil"), r"^params.yaml: distil: no such section; did you mean `distill`"),
    (
        lambda p: p["generate"].update(prompts=320),
        r"generate.prompts: no such parameter; did you mean `evaluation.prompts`\?$",
    ),
    (
        lambda p: rename("steps", "stpes")(p["generate"]["adapter"]["cells"][1]),
        r"generate.adapter.cells.1.stpes: no such .*; did you mean `steps`\? \(and 1 more\)",
    ),
    (
        lambda p: p["prepare"]["source"].update(path="pictures"),
        r"prepare.source.path: no such parameter of this kind; remove it$",
    ),
    (lambda p: p["distill"].update(foo=1), "distill.foo: no such parameter; .*lists all"),
    (lambda p: p["generate"]["adapter"].update(sampler="lmc"), "adapter.sampler: .*'lcm'"),
    (
        lambda p: p["generate"]["adapter"].update(base="team/fine-tune"),
        r"generate\.adapter\.base: no such parameter",
    ),
    (
        lambda p: p["generate"]["adapter"].update(adapters={"style": 1.0}),
        r"generate\.adapter\.adapters: no such section",
    ),
    (
        lambda p: p["generate"]["painters"]["ddim"].update(eta=1.5),
        r"painters\.ddim\.eta: .*less than or equal to 1",
    ),
    (
        lambda p: p["generate"]["painters"]["ddim"].update(adapters={"style.safetensors": 11}),
        r"ddim\.adapters\.style\.safetensors: .*less than or equal to 10",
    ),
    (
        lambda p: p["generate"]["painters"]["ddim"].update(cells=[]),
        r"painters\.ddim\.cells: .*at least 1",
    ),
    *(
        (reserved(name), rf"generate\.painters\.{name}.*: {name} has a role of its own; take")
        for name in ("adapter", "champion", "real")
    ),
    (reserved("DDIM"), r"painters\.DDIM.*is no name of a painter; take small letters"),
    (reserved("../x"), r"painters\.\.\./x.*is no name of a painter"),
    (reserved("x" * 41), r"painters\.x.*at most 40"),
    (
        lambda p: p["generate"]["painters"].pop("teacher"),
        r"^params.yaml: generate: painters: the teacher is missing; add one$",
    ),
    (lambda p: p["distill"].update(steps="3"), r"distill\.steps: .*integer; got \"3\""),
    (lambda p: p["distill"].update(steps=0), r"distill\.steps: .*greater than or equal to 1"),
    (
        lambda p: p["distill"].update(accumulation=7),
        "distill: accumulation 7 does not divide .* 32$",
    ),
    (lambda p: p["distill"]["guidance"].update(low=9.0), "low 9.0 is above high"),
    (lambda p: p["distill"]["guidance"].update(convention="cfg"), "convention: .*'imagen'"),
    (lambda p: p.pop("base"), "base: Field required; .* shows one"),
    (
        lambda p: p["generate"]["painters"]["ddim"].update(
            cells=[{"steps": 1, "guidance": 1}] * 81
        ),
        "at most 80",
    ),
    (lambda p: p["registry"].update(gate=[]), r"registry\.gate: .*at least 1"),
    (
        lambda p: p["registry"]["gate"][0].update(limit=0.4),
        r"registry\.gate\.0\.limit: no such parameter; did you mean `limits`\?",
    ),
    (
        lambda p: p["registry"]["gate"][0]["guards"].update(attributes=-0.1),
        r"registry\.gate\.0\.guards\.attributes: .*greater than or equal to 0",
    ),
    (lambda p: p["score"].update(networks={}), r"score\.networks: .*at least 1"),
    (
        lambda p: p["score"]["networks"].update(Dino={"kind": "shapes"}),
        r"networks\.Dino.*is no name for metrics; take small letters and digits",
    ),
    (
        lambda p: p["score"]["networks"].update(it={"kind": "inception"}),
        r"networks\.it: path: name a file or folder, of every kind but shapes",
    ),
    (
        lambda p: p["score"]["networks"].update(it={"kind": "export", "path": "a.pt2"}),
        r"networks\.it: pixels: say the side that the network takes, of files alone",
    ),
    (
        lambda p: p["score"]["plugins"].update(mine={"command": []}),
        r"plugins\.mine\.command: .*at least 1",
    ),
    (lambda p: p["score"].update(level=95), r"score\.level: .*less than or equal to 0.9999"),
    (lambda p: p["prepare"].update(source={"kind": "foldr"}), "prepare.source: .*foldr"),
    (
        lambda p: p["prepare"].update(source={"kind": "folder", "path": ""}),
        "source.path: .*name an",
    ),
    (lambda p: p["prepare"].update(resolution=33), "resolution: .*multiple of 8"),
    (lambda p: p["prepare"].update(held_out=1.5), "held_out: .*less than 1"),
    (lambda p: p["prepare"].update(held_out=0.99, selection=0.01), "leave no training"),
    (lambda p: p["registry"].update(name="team/sdxl"), 'registry.name: .*letters.*got "team/sdxl"'),
    (lambda p: p["registry"].update(experiment=" "), "registry.experiment: is empty"),
    (lambda p: p["report"].update(title="x" * 2000), "report.title: .*1000 characters"),
    (lambda p: p["report"].update(title="a\nb"), "report.title: .*cannot be printed; remove it$"),
    (
        lambda p: p["report"].update(rows=datetime.date(2026, 1, 2)),
        "rows: 2026-01-02 reads as a date",
    ),
    (lambda p: p["report"].update(rows=b"8"), "report.rows: bytes is no kind of parameter"),
    (lambda p: p["report"].update({1: 2}), "report: the name 1 is not text"),
    (lambda p: p["report"].update({None: 2}), "report: the name None is not text"),
    (lambda p: p["distill"].update(seed=2**63), "distill.seed: too large a number"),
]


@pytest.mark.parametrize(("spoil", "message"), WRONG)
def test_a_wrong_parameter_is_named_in_one_line(
    spoil: Callable[[Any], object], message: str
) -> None:
    raw = copy.deepcopy(RAW)
    spoil(raw)
    with pytest.raises(UserError, match=message) as error:
        parse(Params, raw, "params.yaml")
    assert_one_line(error.value, "params.yaml: ")


def assert_one_line(error: UserError, begins: str) -> None:
    assert len(str(error).splitlines()) == 1
    assert len(str(error)) < 500
    assert str(error).startswith(begins)


def test_a_missing_or_broken_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such file; `lcm-lora params shapes"):
        load_params(tmp_path / "params.yaml")
    (tmp_path / "params.yaml").write_text("a: [1, 2")
    with pytest.raises(UserError, match=r"not valid YAML: line 2: .*; mend it there"):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(UserError, match="not a file; move what is there"):
        load_params(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a file; move what is there"):
        load_params(tmp_path / "pipe")


def bomb(line: str) -> str:
    """Nine names, each of nine of the one before."""
    names = "abcdefghi"
    return "a: &a {x: 1}\n" + "".join(
        line.format(name=name, all=", ".join([f"*{before}"] * 9)) + "\n"
        for before, name in pairwise(names)
    )


HOSTILE = {
    "not UTF-8": (b"distill: \xff\xfe", r"not UTF-8 text \(byte 9\); save it as UTF-8$"),
    "UTF-16": ("distill: 1".encode("utf-16"), "not UTF-8"),
    "empty": (b"", "holds no sections; `lcm-lora params shapes`"),
    "a list": (b"- distill", "holds no sections"),
    "a date": (b"distill: {steps: 2026-01-02}", "steps: 2026-01-02 reads as a date; put it in"),
    "no date": (b"distill: {steps: 2026-13-02}", "cannot be read: month must be .*quotes$"),
    "a moment": (b"distill:\n  steps: 2026-01-02 10:00:00", "reads as a date"),
    "a set": (b"distill: !!set {steps}", "line 1: the tag !!set is not read here; remove it$"),
    "bytes": (b"distill:\n  steps: !!binary aGk=", "line 2: the tag !!binary"),
    "an object": (b"distill: !!python/object:os.system x", "the tag !!python/object:os.system"),
    "billion laughs": (bomb("{name}: &{name} [{all}]").encode(), "too many values, or too deep"),
    "laughs merged": (bomb("{name}: &{name} {{<<: [{all}]}}").encode(), "too many values, or too"),
    "itself": (b"distill: &a [*a]", "too many values, or too deep"),
    "itself merged": (b"distill: &a {<<: *a}", "too many values, or too deep"),
    "nested lists": (b"[" * 200_000, "line 1: too many values, or too deep"),
    "nested mappings": (b"{a: " * 200_000, "line 1: too many values, or too deep"),
    "nested blocks": (b"- " * 200_000, "line 1: too many values, or too deep"),
    "a long list": (b"distill: [" + b"1," * 400_000 + b"]", "too many values"),
    "huge": (b"#" * 2_000_000, "larger than 1000000 bytes"),
    "the same name twice": (b"distill: 1\nreport: 2\ndistill: 3", "line 3: .*duplicate key"),
    "NUL": (b"distill: \x00", "not valid YAML: .*control characters are not allowed"),
    "escaped NUL": (b'distill: {loss: "\\0"}', "loss: holds what cannot be printed; remove it$"),
    "two documents": (b"distill: 1\n---\ndistill: 2", "line 2: .*a single document"),
    "a number for a name": (b"distill: {1: 2}", "distill: the name 1 is not text"),
    "nothing for a name": (b"distill: {null: 2}", "distill: the name None is not text"),
    "a list for a name": (b"distill: {[1, 2]: 2}", "distill: the name .* is not text"),
    "a mapping in a name": (b"distill: {{a: 1}: 2}", "unhashable key"),
    "an unknown alias": (b"distill: *a", "undefined alias"),
    "many digits": (b"distill: " + b"9" * 5000, "cannot be read: .*5000 digits"),
    "a large number": (b"distill: {steps: 0x" + b"f" * 5000 + b"}", "steps: too large a number"),
    "a long name": (b"distill: {? " + b"k" * 900_000 + b" : 1}", "no such parameter"),
}


@pytest.mark.parametrize(("content", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_file_is_one_line(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_bytes(content)
    for load in (load_params, lambda path: load_section(path, Distill)):
        with pytest.raises(UserError) as error:
            load(path)
        assert_one_line(error.value, f"{path}: ")
    # The whole file may have a worse problem, such as sections that are missing.
    assert error.match(message)


def test_aliases_and_merges_of_honest_size_are_read(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(
        SHAPES.replace("distill:", "distill: &distill").replace(
            "score:\n", "score:\n  <<: {level: 0.9}\n", 1
        )
    )
    assert load_params(path).distill == load_params(ROOT / "params.yaml").distill


def test_a_mark_of_byte_order_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(SHAPES, encoding="utf-8-sig")
    assert load_params(tmp_path / "p.yaml") == load_params(ROOT / "params.yaml")


def test_a_section_that_is_missing_or_misspelt(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(SHAPES.replace("distill:", "distil:"))
    with pytest.raises(UserError, match="distil: no such section; did you mean `distill`"):
        load_section(path, Distill)
    # `prepare` is a section, though not unlike `report`.
    path.write_text(SHAPES.replace("report:", "other:"))
    with pytest.raises(UserError, match="report: the section is missing; see `lcm-lora params`"):
        load_section(path, Report)


def test_numbers_read_as_dvc_reads_them(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(SHAPES.replace("huber_c: 0.001", "huber_c: 1e-3"))
    assert load_params(tmp_path / "p.yaml").distill.huber_c == 1e-3


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield where each value of the file is."""
    yield place
    if isinstance(value, dict | list):
        for part in value if isinstance(value, dict) else range(len(value)):
            yield from places(value[part], (*place, part))


PLACES = list(places(RAW))


def replaced(place: tuple[Any, ...], value: Any) -> Any:
    holder = {"all": copy.deepcopy(RAW)}
    spot: Any = holder
    *way, last = ("all", *place)
    for part in way:
        spot = spot[part]
    spot[last] = value
    return holder["all"]


def value_at(place: tuple[Any, ...]) -> Any:
    value = RAW
    for part in place:
        value = value[part]
    return value


NUMBERS = [p for p in PLACES if type(value_at(p)) in {int, float}]


@pytest.mark.parametrize("place", NUMBERS, ids=lambda place: ".".join(map(str, place)))
def test_every_number_is_finite_and_bounded(place: tuple[Any, ...]) -> None:
    name = ".".join(map(str, place))
    for value in (float("inf"), float("-inf"), float("nan")):
        with pytest.raises(UserError, match=rf"^p: {name}: -?(inf|nan) is not finite"):
            parse(Params, replaced(place, value), "p")
    kind = type(value_at(place))
    for value in (kind(-(10**12)), kind(2**63)):
        with pytest.raises(UserError, match=rf"^p: {name}: "):
            parse(Params, replaced(place, value), "p")


def test_infinity_is_refused_in_a_file(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    for text, word in ((".inf", "inf"), ("-.INF", "-inf"), (".nan", "nan"), ("1e999", "inf")):
        path.write_text(SHAPES.replace("clip_norm: 1.0", f"clip_norm: {text}"))
        with pytest.raises(UserError, match=f"distill.clip_norm: {word} is not finite; take a fin"):
            load_params(path)


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"steps": value}
    return value


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(0, 60)
    | st.sampled_from([2**63, 10**400, -(10**30), 1e308, float("nan"), float("inf")])
    | st.floats()
    | st.floats(0, 9)
    | st.text(st.characters(exclude_categories=()), max_size=9)
    | st.sampled_from(["cpu", "fp16", "kid_shapes:real", "data", "imagen", "l2", "lcm", "x" * 9999])
    | st.dates()
    | st.datetimes()
    | st.binary(max_size=3)
)
names = st.sampled_from(
    ["steps", "kind", "teacher", "guidance", "path", "seeds", "sampler", "cells", "limits"]
) | st.text(max_size=5)
junk = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names | scalars, inner, max_size=4),
    max_leaves=8,
) | st.integers(1, 3000).map(nested)


@settings(max_examples=600)
@given(st.sampled_from(PLACES), junk)
def test_any_value_for_any_parameter_is_read_or_refused_in_one_line(
    place: tuple[Any, ...], value: Any
) -> None:
    try:
        params = parse(Params, replaced(place, value), "params.yaml")
    except UserError as error:
        assert_one_line(error, "params.yaml: ")
        return
    try:
        check_params(params)
    except UserError as error:
        assert_one_line(error, "")


@settings(max_examples=200)
@given(st.text(max_size=60) | st.text(" .'\"/:%-_#?@\\é", max_size=9))
def test_mlflow_takes_every_name_that_is_taken_here(name: str) -> None:
    gate = list(RAW["registry"]["gate"])
    raw = {"name": name, "experiment": name, "gate": gate, "smoke": 0}
    try:
        registry = parse(Registry, raw, "p")
    except UserError:
        return
    _validate_model_name(registry.name)
    _validate_experiment_name(registry.experiment)


@pytest.mark.parametrize("name", ["lcm-lora-sdxl", "main.models.lcm_lora", "Модель 2", "7"])
def test_honest_names_are_taken(name: str) -> None:
    gate = ({"steps": 4, "limits": {"clip_score": 25}},)
    registry = {"name": name, "experiment": "/Users/me: LCM", "gate": gate, "smoke": 0}
    assert Registry.model_validate(registry).name == name


def test_sections_are_frozen() -> None:
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValidationError, match="frozen"):
        params.distill.steps = 1  # type: ignore[misc]


@pytest.mark.parametrize(("guidance", "nfe"), [(0.0, 4), (1.0, 4), (1.5, 8), (7.5, 8)])
def test_guidance_above_one_doubles_the_cost(guidance: float, nfe: int) -> None:
    assert Cell(steps=4, guidance=guidance).nfe == nfe


def test_a_cell_has_one_name_everywhere_and_no_other_cell_has_it() -> None:
    generate = load_params(ROOT / "params.yaml").generate
    cells = [(name, cell) for name in generate.names for cell in generate.painter(name).cells]
    assert len({cell_id(*cell) for cell in cells}) == len(cells)
    assert cell_id(ADAPTER, Cell(steps=4, guidance=1.0)) == "adapter/steps-4_guidance-1"
    other = Cell(steps=50, guidance=3, seeds=1)
    assert cell_id(TEACHER, other) == "teacher/steps-50_guidance-3_seeds-1"


def test_the_champion_paints_what_the_adapter_paints() -> None:
    raw = copy.deepcopy(RAW["generate"])
    generate = Generate.model_validate(raw)
    assert generate.painter(CHAMPION) is generate.painter(ADAPTER) is generate.adapter
    assert generate.names == [*raw["painters"], ADAPTER, CHAMPION]
