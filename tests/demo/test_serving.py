"""A served demo, asked as its page asks: same pictures, limits, turns, and a clean end."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demos import LCM_LORA, OTHER_STYLE, STYLE, VERSION, Server
from PIL import Image

from lcm_lora import layout
from lcm_lora.data.picture_sets import read_set
from lcm_lora.demo.hosts import is_everywhere, names_of
from lcm_lora.demo.names import without_folders
from lcm_lora.demo.offer import offer_of
from lcm_lora.demo.wish import read_wish
from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.hashes import Hashes
from lcm_lora.painting.subject import Subject, Weighted
from lcm_lora.params.generate import Cell, Generate, Sampling
from lcm_lora.params.transfer import Subject as Elsewhere
from lcm_lora.params.transfer import Transfer
from lcm_lora.showing.asked import Asked, asked_of
from lcm_lora.showing.easel import Easel
from lcm_lora.showing.order import Order, Weights
from lcm_lora.stages.generate import PLACES

WISH = {"prompt": "a small red ring", "painters": ["adapter"], "steps": [1], "seed": 3}
LONG = WISH | {"painters": ["dpmpp"], "steps": list(range(35, 51))}
NOWHERE = Transfer(
    prompts=4,
    painters={"teacher": Sampling(sampler="ddim", cells=(Cell(steps=2, guidance=3),))},
    adapter=Sampling(sampler="lcm", cells=(Cell(steps=2, guidance=1),)),
)
"""Nothing is tried elsewhere, so no style is offered."""
FOUR = WISH | {"painters": ["dpmpp"], "steps": [15, 48, 49, 50]}
Event = dict[str, Any]


def request(url: str, body: object = WISH, **headers: str) -> urllib.request.Request:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    told = {"Content-Type": "application/json", **headers}
    return urllib.request.Request(f"{url}/paint", sent, told)


@contextlib.contextmanager
def asking(server: Server, wish: object) -> Iterator[Iterator[Event]]:
    """Ask, and give the events as they come; hang up in the end."""
    with urllib.request.urlopen(request(server.url, wish), timeout=60) as answer:
        yield (json.loads(line) for line in answer)


def refusal(asked: urllib.request.Request | str) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as error:
        urllib.request.urlopen(asked, timeout=60)
    with error.value as answer:
        return answer.code, answer.read().decode()


def test_pictures_are_those_of_the_library(
    server: Server, params: Generate, subjects: dict[str, Subject], easel: Easel
) -> None:
    names, steps = ["adapter", "dpmpp", "champion"], (1, 2)
    with asking(server, WISH | {"painters": names, "steps": steps}) as events:
        *pictures, last = events
    assert last == {"event": "done"}
    asked = asked_of(names, steps, params, subjects)
    assert [event["number"] for event in pictures] == list(range(len(asked)))
    for one, event in zip(asked, pictures, strict=True):
        assert event["ms"] > 0
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(event["png"]))))
        np.testing.assert_array_equal(shown, easel.paint(one, Order("a small red ring", 3)))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (WISH | {"prompt": "  "}, "prompt"),
        (WISH | {"prompt": "a" * 501}, "at most 500"),
        (WISH | {"painters": ["rembrandt"]}, "rembrandt: not known here"),
        (WISH | {"painters": []}, "painters"),
        (WISH | {"steps": []}, "none are chosen"),
        (WISH | {"steps": [51]}, "less than or equal to 50"),
        (WISH | {"steps": [0]}, "greater than or equal to 1"),
        (
            WISH | {"steps": [*range(1, 14)], "painters": ["adapter", "ddim", "dpmpp", "unipc"]},
            "48",
        ),
        (WISH | {"seed": -1}, "seed"),
        (WISH | {"styles": {"mine": 1}}, "mine: not known here; choose one of drawn, other one"),
        (WISH | {"styles": {"drawn.safetensors": 1}}, "not known here; choose one of drawn"),
        (WISH | {"styles": {"drawn": 1.6}}, "less than or equal to 1.5"),
        (WISH | {"styles": {"drawn": "much"}}, "valid number"),
        (WISH | {"styles": ["drawn"]}, "styles"),
        (WISH | {"acceleration": -0.1}, "greater than or equal to 0"),
        (WISH | {"guidance": 3.5}, "less than or equal to 3"),
        (WISH | {"guidance": 0.5}, "greater than or equal to 1"),
        (WISH | {"negative": "a" * 501}, "at most 500"),
        (WISH | {"size": 4096}, "size: no such parameter"),
        (b"{", "not JSON"),
        (b"[" * 99_999, "not JSON"),
        (b" " * 200_000, "too long"),
        (7, "request"),
    ],
)
def test_what_is_too_much_or_nonsense_is_refused(server: Server, body: Any, words: str) -> None:
    code, text = refusal(request(server.url, body))
    assert code == 422
    says = json.loads(text)["says"]
    assert words in says
    assert "\n" not in says


def test_other_pages_cannot_ask(server: Server) -> None:
    """Neither with a form, which may be of these types only, nor by a name that leads here."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
        assert refusal(request(server.url, **{"Content-Type": kind}))[0] == 422
    assert refusal(request(server.url, Host="elsewhere.example"))[0] == 400


def shown(server: Server, **more: Any) -> list[bytes]:
    """Return the pictures that are answered to a wish of the adapter and the teacher."""
    with asking(
        server, WISH | {"painters": ["adapter", "champion"], "steps": [2]} | more
    ) as events:
        return [base64.b64decode(event["png"]) for event in events if "png" in event]


def test_weights_and_words_are_those_of_the_library(
    server: Server, project: Path, params: Generate, subjects: dict[str, Subject], easel: Easel
) -> None:
    """Whatever was asked for before; and all at 1 and none of styles is as if nothing were said."""
    plain = shown(server)
    weights = Weights(0.5, (Weighted(project / STYLE, sha256(project / STYLE), 0.75),))
    order = Order("a small red ring", 3, "a ring", weights=weights)
    told = {
        "acceleration": 0.5,
        "styles": {"other one": 0, "drawn": 0.75},
        "guidance": 1.5,
        "negative": "a ring",
    }
    pictures = shown(server, **told)
    for name, picture in zip(("adapter", "champion"), pictures, strict=True):
        expected = easel.paint(Asked(name, Cell(steps=2, guidance=1.5)), order)
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(picture))), expected)
    others = [told | {"styles": {}}, told | {"acceleration": 1}, told | {"negative": ""}]
    seen = {tuple(shown(server, **other)) for other in (told, *others)}
    assert len(seen) == 4, "each of them acts"
    assert shown(server, **told) == pictures
    still = {"acceleration": 1.0, "styles": {"drawn": 0}, "guidance": 1, "negative": "a ring"}
    assert shown(server, **still) == shown(server) == plain


def kinds(events: Iterator[Event]) -> list[str]:
    return [event["event"] for event in events]


def test_requests_take_turns(server: Server) -> None:
    with asking(server, FOUR) as first:
        assert next(first)["event"] == "picture"
        with asking(server, WISH) as second:
            assert next(second) == {"event": "waiting", "before": 1}
            assert kinds(first) == ["picture", "picture", "picture", "done"]
            assert kinds(second) == ["picture", "done"]


def test_who_hangs_up_waits_no_longer_and_frees_the_painter(server: Server) -> None:
    """The pictures that come next are whole, though one before was given up half-way."""
    with asking(server, WISH) as events:
        (whole,) = [event["png"] for event in events if event["event"] == "picture"]
    with asking(server, LONG) as first, asking(server, WISH) as second:
        assert next(first)["event"] == "picture"
        assert next(second)["event"] == "waiting"
    with asking(server, WISH) as events:
        pictures = [event["png"] for event in events if event["event"] == "picture"]
    assert pictures == [whole]


def test_too_many_cannot_wait(server: Server) -> None:
    with contextlib.ExitStack() as held, ThreadPoolExecutor(24) as pool:

        def code(_: int) -> int:
            try:
                held.enter_context(asking(server, LONG))
            except urllib.error.HTTPError as error:
                with error:
                    return error.code
            return 200

        assert sorted(pool.map(code, range(24))) == [200] * 16 + [503] * 8
    # It may take a moment until the server has seen that they hung up.
    while True:
        with contextlib.suppress(urllib.error.HTTPError), asking(server, WISH) as events:
            assert kinds(events)[-2:] == ["picture", "done"]
            break


def test_the_page_says_who_can_paint_and_asks_nobody_else(server: Server) -> None:
    with urllib.request.urlopen(server.url) as answer:
        page = answer.read().decode()
    assert VERSION in page
    assert "default-src 'none'" in page
    assert "http:" not in page.replace("http://www.w3.org", "")
    assert "https:" not in page


@pytest.mark.usefixtures("warm_starts")
def test_a_port_that_is_taken_is_one_line(server: Server, project: Path) -> None:
    done = subprocess.run(
        [LCM_LORA, "demo", "--port", server.port], cwd=project, text=True, capture_output=True
    )
    assert done.returncode == 1
    assert done.stderr == f"error: --port {server.port}: taken; name another, or 0 for any\n"


@pytest.mark.usefixtures("warm_starts")
def test_a_project_without_a_base_is_one_line(project: Path, tmp_path: Path) -> None:
    shutil.copy(project / "params.yaml", tmp_path)
    done = subprocess.run(
        [LCM_LORA, "demo", "--port", "0"], cwd=tmp_path, text=True, capture_output=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: data/inventory/base.json: no such file; run `lcm-lora")


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("127.0.0.1", ("127.0.0.1", "localhost")),
        ("localhost", ("127.0.0.1", "localhost")),
        ("127.0.0.2", ("127.0.0.2",)),
        ("::1", ("[::1]",)),
        ("painter.example", ("painter.example",)),
        ("0.0.0.0", ("*",)),
        ("::", ("*",)),
    ],
)
def test_only_the_address_that_is_named_leads_to_the_page(
    host: str, names: tuple[str, ...]
) -> None:
    assert names_of(host) == names
    assert is_everywhere(host) == (names == ("*",))


def test_who_reaches_it_from_elsewhere_sees_no_folders() -> None:
    for path in ("/srv/models/sd.safetensors", "~/models/sd.safetensors", "models/sd.safetensors"):
        assert (
            without_folders(f"{path}: damaged ({path})")
            == "sd.safetensors: damaged (sd.safetensors)"
        )
    assert (
        without_folders("a plain text: 50 steps, guidance 3")
        == "a plain text: 50 steps, guidance 3"
    )


def test_a_painter_leaves_out_steps_that_it_was_not_trained_for(
    params: Generate, subjects: dict[str, Subject]
) -> None:
    few = subjects | {
        "adapter": replace(subjects["adapter"], lcm_config={"original_inference_steps": 4})
    }
    wish = WISH | {"painters": ["dpmpp", "adapter"], "steps": [8, 2]}
    _, asked = read_wish(wish, params, few)
    assert [(one.painter, one.cell.steps) for one in asked] == [
        ("dpmpp", 8),
        ("dpmpp", 2),
        ("adapter", 2),
    ]
    with pytest.raises(UserError, match="none are chosen"):
        read_wish(wish | {"painters": ["adapter"], "steps": [8]}, params, few)


def test_without_an_adapter_the_rest_can_paint(
    there: Path, params: Generate, hashes: Hashes, tmp_path: Path
) -> None:
    places = replace(PLACES, adapter=there / "nowhere")
    offer = offer_of(params, NOWHERE, (), places, tmp_path, hashes)
    adapter, champion, teacher, *rivals = offer.painters
    assert not adapter.is_there
    assert not adapter.is_chosen
    assert (adapter.most, champion.most, teacher.most) == (0, 50, 1000)
    assert "nowhere/recipe.json: no such file; run lcm-lora select" in adapter.about
    assert (champion.name, champion.about, champion.is_chosen) == ("champion", VERSION, True)
    assert (teacher.steps, teacher.about) == (50, "DDIM, 50 steps, guidance 3")
    assert [rival.is_chosen for rival in rivals] == [False] * 3
    assert offer.subjects.keys() == {"champion", "teacher", "ddim", "dpmpp", "unipc"}
    assert offer.examples == ()


def test_examples_are_captions_of_the_evaluation_set(
    there: Path, params: Generate, hashes: Hashes
) -> None:
    examples = offer_of(params, NOWHERE, (), PLACES, layout.EVALUATION, hashes).examples
    assert examples == read_set(layout.EVALUATION, "real").captions[:6]


def test_styles_are_those_of_the_transfer_evaluation_and_those_that_are_named(
    there: Path, params: Generate, hashes: Hashes
) -> None:
    (there / "elsewhere").mkdir(exist_ok=True)
    shutil.copy(STYLE, there / "elsewhere" / STYLE)
    subjects = {
        "one": Elsewhere(adapters={STYLE: 0.8, "gone.safetensors": 1.0}),
        "two": Elsewhere(adapters={f"elsewhere/{STYLE}": 1.0, STYLE: 0.5}),
    }
    transfer = NOWHERE.model_copy(update={"subjects": subjects})
    own = (f"gone={OTHER_STYLE}", "third = elsewhere")
    for named, wearable, about in (
        ((), ["drawn", "drawn 2"], "gone.safetensors: no such adapter; name one that is there"),
        (own, ["drawn", "gone", "drawn 2", "third"], OTHER_STYLE),
    ):
        offer = offer_of(params, transfer, named, PLACES, layout.EVALUATION, hashes)
        assert [*offer.wearable] == wearable
        assert next(style.about for style in offer.styles if style.name == "gone") == about
    for text, words in (
        ("ink", "--style ink: write NAME=FILE, such as ink=ink.safetensors"),
        (f"={STYLE}", "write NAME=FILE"),
        ("ink=", "write NAME=FILE"),
        (f"{'i' * 41}={STYLE}", "at most 40 letters"),
        ("ink=gone.safetensors", "--style ink: gone.safetensors: no such adapter"),
        ("ink=old.ckpt", "--style ink: old.ckpt: pickled weights are refused"),
    ):
        with pytest.raises(UserError, match=re.escape(words)):
            offer_of(params, transfer, (text,), PLACES, layout.EVALUATION, hashes)


def test_ctrl_c_ends_it_cleanly(server: Server) -> None:
    """The last of all tests that ask the server: nobody answers afterwards."""
    with asking(server, LONG) as events:
        assert next(events)["event"] == "picture"
        server.process.send_signal(signal.SIGINT)
        assert "error" not in kinds(events)
    assert server.process.stderr is not None
    assert (server.process.stderr.read(), server.process.wait(timeout=60)) == ("", 0)
