"""What is bound to fail hours later is refused at once, in one line; what may work is not."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from presets import ROOT, Change, cell, preset

from bench.rehearse import shrink
from lcm_lora.check import check_counts, check_disk, check_params
from lcm_lora.errors import UserError
from lcm_lora.evaluation.names import metrics_of, selection_metrics
from lcm_lora.params.file import load_params
from lcm_lora.params.score import Score

PRESETS = sorted((ROOT / "lcm_lora" / "presets").glob("*.yaml"))


def source(kind: str, path: str) -> dict[str, Any]:
    return {"kind": kind, "path": path}


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_every_preset_passes(path: Path) -> None:
    check_params(load_params(path))


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_a_preset_distils_the_teacher_that_it_measures_against(path: Path) -> None:
    """At one guidance, in one convention."""
    params = load_params(path)
    guided = params.distill.guidance
    shift = 1.0 if guided.convention == "lcm" else 0.0
    teacher = params.generate.painters["teacher"]
    assert {guided.low + shift, guided.high + shift} == {cell.guidance for cell in teacher.cells}


def test_checking_imports_nothing_heavy() -> None:
    program = (
        "import sys; import lcm_lora.check, lcm_lora.inventory.look\n"
        "heavy = {'torch', 'numpy', 'diffusers', 'transformers', 'PIL', 'safetensors'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def cells(raw: Any, painter: str) -> Any:
    """Return the cells of a painter, to be changed in place."""
    generate = raw["generate"]
    return (generate["adapter"] if painter == "adapter" else generate["painters"][painter])["cells"]


def gate(**rules: Any) -> Change:
    """Change the rules of the first step count of the gate, and leave no other."""
    return lambda p: p["registry"].update(gate=[p["registry"]["gate"][0] | rules])


def twice(p: Any) -> None:
    p["registry"]["gate"].append(p["registry"]["gate"][0])


INCEPTION = {"inception": {"kind": "inception", "path": "inception.pt"}}
NO_RULES: dict[str, Any] = {"limits": {}, "target": {}, "guards": {}}

WRONG: list[tuple[Change, str]] = [
    (
        lambda p: cells(p, "adapter").append(cell(51)),
        r"^generate\.adapter\.cells: 51 steps .* distill\.grid 50; lower them$",
    ),
    (
        lambda p: p["select"].update(steps=51),
        r"^select\.steps: 51 steps .* distill\.grid 50; lower them$",
    ),
    (
        lambda p: p["select"].update(metric="fd_shapes:real"),
        r"^select\.metric: candidates cannot be judged by fd_shapes:real; take kid_shapes:real, "
        r"clip_score or attributes$",
    ),
    (
        lambda p: p["score"].update(attributes=False),
        r"^select\.metric: .* by attributes; take kid_shapes:real or clip_score$",
    ),
    (
        lambda p: (p["score"].update(networks=INCEPTION), p["select"].update(metric="kid")),
        r"^select\.metric: .* by kid; take kid:real, clip_score or attributes$",
    ),
    (
        lambda p: p["evaluation"].update(selection=7),
        r"^evaluation\.selection: 7 captions choose by chance; take 8 or more$",
    ),
    (
        lambda p: cells(p, "ddim").append(cell(4, 3)),
        r"^generate painter ddim: steps-4_guidance-3 is there more than once; remove one$",
    ),
    (
        lambda p: cells(p, "unipc").append(cell(4, 3.0000001)),
        r"^generate painter unipc: steps-4_guidance-3 is there more than once",
    ),
    (
        lambda p: cells(p, "adapter").append(cell(3, seeds=1)),
        r"^generate\.adapter: steps-3_guidance-1_seeds-1 has no counterpart with seeds 0",
    ),
    (
        lambda p: p["generate"]["painters"]["dpmpp"].update(cells=[cell(4, seeds=1)]),
        r"^generate painter dpmpp: .* no counterpart with seeds 0, .*; add it$",
    ),
    (
        lambda p: p["generate"]["painters"]["teacher"].update(cells=[cell(50, 3, seeds=1)]),
        r"^generate painter teacher: .* no counterpart with seeds 0, .*; add it$",
    ),
    (
        lambda p: p["generate"]["painters"]["teacher"].update(cells=[cell(50, 3)]),
        r"^generate painter teacher: the cell of most evaluations has no seeds but 0; add it again "
        r"with seeds 1, which all others are compared with$",
    ),
    (
        lambda p: cells(p, "teacher").append(cell(60, 3)),
        r"^generate painter teacher: the cell of most evaluations has no seeds but 0; add it",
    ),
    (
        gate(steps=3),
        r"^registry\.gate\.0: the adapter is not painted at 3 steps, guidance 1; take one of "
        r"generate\.adapter\.cells: 1 steps, guidance 1; 2 steps",
    ),
    (gate(guidance=3), r"^registry\.gate\.0: the adapter is not painted at 4 steps, guidance 3; "),
    (twice, r"^registry\.gate\.0: 4 steps, guidance 1 are judged twice; put the rules together$"),
    (
        gate(target={"fid:real": 0}),
        r"^registry\.gate\.0\.target: the table will hold no fid:real of that cell; take one of: "
        r"kid_shapes:real, fd_shapes:real, kid_shapes:teacher, .*clip_score, attributes$",
    ),
    (
        lambda p: (
            p["score"].update(networks=INCEPTION, attributes=False),
            p["select"].update(metric="clip_score"),
        ),
        r"no attributes of that cell; take one of: kid:real, fid:real, kid:teacher, fid:teacher, ",
    ),
    (
        gate(steps=2, guards={"diversity_shapes": 0}),
        r"^registry\.gate\.0\.guards: the table will hold no diversity_shapes of that cell; take",
    ),
    (
        gate(limits={"attributes": 40}),
        r"^registry\.gate\.0\.limits: attributes never exceeds 1, so never reaches 40; lower it$",
    ),
    (gate(limits={"clip_score": 101}), "clip_score never exceeds 100"),
    (
        gate(limits={"fd_shapes:real": -1}),
        r"^registry\.gate\.0\.limits: fd_shapes:real is never below 0, .*; raise it$",
    ),
    (gate(**NO_RULES), r"^registry\.gate\.0: no rule; name limits, a target or guards, or remove"),
    (
        gate(**NO_RULES | {"limits": {"attributes": 0.4}}),
        r"^registry\.gate: no rule compares with the champion, .*; name a target or a guard$",
    ),
    (
        gate(target={"attributes": 0}, guards={"attributes": 0.1}),
        r"^registry\.gate\.0: attributes is a target and a guard; .*, so remove the guard$",
    ),
    (
        lambda p: p["report"].update(rows=321),
        r"^report\.rows: 321 pictures cannot be shown of evaluation\.prompts 320; lower it$",
    ),
    (lambda p: p["report"].update(worst=400), r"^report\.worst: 400 pictures"),
    (
        lambda p: p["prepare"].update(held_out=0),
        r"^prepare\.held_out: 0 leaves no pictures to evaluate on; raise it, or name an eval",
    ),
    (
        lambda p: p["prepare"].update(min_side=64),
        r"^prepare\.min_side: 64 rejects every scene of prepare\.source, .* 32; lower it$",
    ),
    (
        lambda p: p["prepare"].update(source=source("webdataset", "data/../data")),
        r"^prepare\.source\.path: data/\.\./data and data/inventory, .* keep pictures elsewhere$",
    ),
    (
        lambda p: p["evaluation"].update(source=source("folder", "artifacts/images/ddim")),
        r"^evaluation\.source\.path: artifacts/images/ddim and artifacts/images, which is written",
    ),
    (
        lambda p: p["evaluation"].update(source={"kind": "shapes", "count": 640, "seed": 7}),
        r"^evaluation\.source: its pictures are in prepare\.source too, .* set it to null",
    ),
    (
        lambda p: (
            p["prepare"].update(source=source("webdataset", "tars")),
            p["evaluation"].update(source=source("webdataset", "./tars/evaluation.tar")),
        ),
        r"^evaluation\.source: its pictures are in prepare\.source too",
    ),
    (
        lambda p: p["hardware"].update(device="cpu", precision="fp16"),
        r"^hardware\.precision: fp16 trains on a GPU only; take fp32 or bf16$",
    ),
    (
        lambda p: p["base"].update(model="models:/a-modules@finetune-dusk"),
        r"^base\.model: models:/a-modules@finetune-dusk is in the registry, .* folder, file or hub",
    ),
    (lambda p: p["base"].update(vae="models:/a/1"), r"^base\.vae: models:/a/1 is in the registry"),
]


ELSEWHERE: list[tuple[Change, str]] = [
    (
        lambda t: t.update(prompts=321),
        r"^transfer\.prompts: 321 are more than evaluation\.prompts 320, .* lower it$",
    ),
    (
        lambda t: t["painters"]["ddim"]["cells"].append(cell(1, 3)),
        r"^transfer\.painters\.ddim: steps-1_guidance-3 is there more than once; remove one$",
    ),
    (
        lambda t: t["painters"]["teacher"].update(cells=[cell(25, 3), cell(10), cell(10, seeds=1)]),
        r"^transfer\.painters\.teacher: the cell of most evaluations has no seeds but 0; add it",
    ),
    (
        lambda t: t["adapter"]["cells"].append(cell(3, seeds=1)),
        r"^transfer\.adapter: steps-3_guidance-1_seeds-1 has no counterpart with seeds 0",
    ),
    (
        lambda t: t["adapter"]["cells"].append(cell(51)),
        r"^transfer\.adapter\.cells: 51 steps .* distill\.grid 50; lower them$",
    ),
    (
        lambda t: t["map"].update(cell=cell(51)),
        r"^transfer\.map\.cell: 51 steps .* distill\.grid 50; lower them$",
    ),
    (
        lambda t: t["map"].update(cell=cell(4, seeds=1)),
        r"^transfer\.map: steps-4_guidance-1_seeds-1 has no counterpart with seeds 0",
    ),
    (
        lambda t: t["map"].update(style=[1.0, 0.5, 1.0]),
        r"^transfer\.map\.style: 1 is there more than once; remove one$",
    ),
    (
        lambda t: t["map"].update(acceleration=[0.0, 0.5]),
        r"^transfer\.map\.acceleration: 1 is missing, with which all points are compared; add it$",
    ),
    (
        lambda t: t["subjects"]["ink"].update(looks=["ink", "ink"]),
        r"^params\.yaml: transfer\.subjects\.ink: looks: ink is there more than once; remove one$",
    ),
    (
        lambda t: t["subjects"].update(DDIM={}),
        r"transfer\.subjects\.DDIM: is no name of a subject; take small letters, digits and -; got",
    ),
    (
        lambda t: t["painters"].update({"mix-1-1": t["adapter"]}),
        r"transfer: painters: mix-1-1 is what a point of the map is called; rename it$",
    ),
]


@pytest.mark.parametrize(("change", "message"), ELSEWHERE)
def test_what_is_bound_to_fail_elsewhere_is_refused_where_something_is_tried(
    change: Change, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_params(preset(lambda p: change(p["transfer"])))
    assert len(str(error.value).splitlines()) == 1
    if str(error.value).startswith("transfer."):  # a parameter that is no such is none anywhere
        check_params(preset(lambda p: (change(p["transfer"]), p["transfer"].update(subjects={}))))


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_is_bound_to_fail_is_refused_in_one_line(change: Change, message: str) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_params(preset(change))
    assert len(str(error.value).splitlines()) == 1


HONEST: list[Change] = [
    lambda p: cells(p, "adapter").append(cell(4, seeds=2)),
    lambda p: cells(p, "adapter").append(cell(50)),
    lambda p: cells(p, "ddim").append(cell(500, 3)),  # the grid is the trained adapter's own
    lambda p: p["generate"]["adapter"].update(sampler="ddim", cells=[cell(4), cell(2), cell(60)]),
    lambda p: cells(p, "teacher").append(cell(50, 3, seeds=2)),
    lambda p: p["transfer"]["subjects"].update(adapter={}, champion={}),
    gate(limits={"kid_shapes:teacher": -0.1}),  # an unbiased estimate may well be below 0
    gate(guards={"diversity_shapes": 0.1}),
    lambda p: p["distill"].update(steps=2),  # a short try, within the warm-up
    lambda p: (p["select"].update(metric="clip_score"), p["evaluation"].update(selection=8)),
    lambda p: p["select"].update(metric="kid_shapes:real", steps=50),
    lambda p: p["evaluation"].update(source={"kind": "shapes", "count": 640, "seed": 8}),
    lambda p: (
        p["prepare"].update(held_out=0),
        p["evaluation"].update(source=source("webdataset", "/data/evaluation")),
    ),
    lambda p: (
        p["prepare"].update(source=source("webdataset", "tars")),
        p["evaluation"].update(source=source("webdataset", "tars-evaluation")),
    ),
    lambda p: (  # a folder's tars and its pictures are not the same pictures
        p["prepare"].update(source=source("webdataset", "all")),
        p["evaluation"].update(source=source("folder", "all/evaluation")),
    ),
    lambda p: p["prepare"].update(source=source("folder", "data/pictures"), min_side=64),
    lambda p: p["hardware"].update(device="auto", precision="fp16"),
]


@pytest.mark.parametrize("change", HONEST)
def test_what_may_work_is_not_refused(change: Change) -> None:
    check_params(preset(change))


@pytest.mark.parametrize("network", [{"shapes": {"kind": "shapes"}}, INCEPTION])
def test_metrics_say_which_way_is_good_and_candidates_are_judged_by_some(network: Any) -> None:
    plugins = {"look": {"command": ["look"]}, "flaws": {"command": ["f"], "lower_is_better": True}}
    score = Score(networks=network, plugins=plugins)
    found = metrics_of(score, several_noises=True)
    assert len({metric.name for metric in found}) == len(found)
    lower = {metric.kind for metric in found if metric.lower_is_better}
    assert lower == {"kid", "fd", "mean"}  # the plug-in's
    assert [m.name for m in found if m.lower_is_better and m.kind == "mean"] == ["flaws"]
    # The headline is without bias, and so is all that candidates are judged by.
    unbiased = {metric.name for metric in found if metric.is_unbiased}
    assert found[0].name in unbiased
    assert set(selection_metrics(score)) <= unbiased
    plain = metrics_of(score.model_copy(update={"attributes": False}), several_noises=False)
    assert {m.name for m in found} - {m.name for m in plain} == {
        "attributes",
        f"diversity_{next(iter(network))}",
    }


COUNTS: list[tuple[int, int | None, str]] = [
    (832, None, r"^prepare\.source: 832 pictures are fewer than the 833 that .*; add some, or low"),
    (2000, None, r"^prepare\.held_out: 0\.14 of 2000 pictures are about 280, and .* needs 640; "),
    (2000, 640, r"^prepare\.selection: 0\.03 of 2000 pictures are about 60, and .* needs 192; "),
    (192, 640, r"^prepare\.source: 192 pictures are fewer than the 193 that"),
    (8192, 639, r"^evaluation\.prompts: 320 and as many others .* 639 pictures of evaluation\.so"),
]


@pytest.mark.parametrize(("pictures", "own", "message"), COUNTS)
def test_too_few_pictures_are_refused_in_one_line(
    pictures: int, own: int | None, message: str
) -> None:
    with pytest.raises(UserError, match=message) as error:
        check_counts(preset(), pictures, own)
    assert len(str(error.value).splitlines()) == 1


def test_pictures_that_suffice_are_not_refused() -> None:
    check_counts(preset(), 8192, None)
    check_counts(preset(), 8192, 640)
    # 0.14 of 4500 are 630 of the 640 needed: chance may well make up for ten.
    check_counts(preset(lambda p: p["evaluation"].update(selection=40)), 4500, None)


@given(st.integers(1, 10**7), st.integers(1, 10**7), st.none() | st.integers(640, 10**6))
def test_more_pictures_never_hurt(pictures: int, more: int, own: int | None) -> None:
    params = preset()
    try:
        check_counts(params, pictures, own)
    except UserError:
        return
    check_counts(params, pictures + more, own)


def test_a_full_disk_is_refused_in_one_line() -> None:
    check_disk(10**9, 10**9, Path("data"))
    with pytest.raises(UserError, match=r"^data: a run needs about 2\.5 GB there, and 1\.0 GB are"):
        check_disk(2_500_000_000, 10**9, Path("data"))


@pytest.mark.parametrize("name", ["sd15", "ssd1b", "sdxl"])
def test_what_a_rehearsal_runs_may_begin(name: str) -> None:
    check_params(preset(lambda raw: shrink(raw, on_gpu=False), name))
