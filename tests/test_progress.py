"""Long work says how far it is, from its first unit to its last."""

from types import SimpleNamespace

import pytest

from lcm_lora import progress


def test_lines_say_rate_and_time_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 6.0, 7.0, 20.0, 24.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    with progress.progress("encode", 12, "pictures", done=2) as advance:
        advance(0)  # slow to begin: nothing is known of the rate yet
        advance(1)
        advance(4, "a note")
        advance(5)
    assert capsys.readouterr().err.splitlines() == [
        "encode: 2/12 pictures, 0.0 pictures/s",
        "encode: 7/12 pictures, 0.2 pictures/s, 20 s left, a note",
        "encode: 12/12 pictures, 0.4 pictures/s, took 24 s",
    ]
