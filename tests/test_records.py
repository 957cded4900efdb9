"""The one door for records: what it refuses, in one line, and that what was written comes back."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from lcm_lora.errors import UserError
from lcm_lora.files import sha256
from lcm_lora.records import Open, Record, check_file, parse_record, read_record, write_record


class Inner(Record):
    """A part."""

    kind: str = Field(alias="class")


class Sample(Record):
    """A sample: of every sort of field."""

    count: int
    share: float
    names: tuple[str, ...] = ()
    inner: Inner | None = None
    anything: Open = Field(default_factory=dict)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**60), 2**60)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False), plain)
def test_what_is_written_comes_back(count: int, share: float, value: object) -> None:
    record = Sample(
        count=count,
        share=share,
        names=("\N{SNOWMAN}", "\n"),
        inner=Inner(**{"class": "x"}),
        anything={"value": value},
    )
    with tempfile.TemporaryDirectory() as folder:
        write_record(Path(folder) / "a.json", record)
        assert read_record(Path(folder) / "a.json", Sample, "mend") == record


@given(st.binary(max_size=200))
def test_bytes_of_any_kind_end_in_one_line(content: bytes) -> None:
    with pytest.raises(UserError) as error:
        parse_record(content, Sample, "a.json", "run it again")
    message = str(error.value)
    assert message.isprintable()
    assert message.startswith("a.json: damaged (A sample; ")
    assert message.endswith("; run it again")


@pytest.mark.parametrize(
    "content",
    [
        '{"count": "1", "share": 1}',
        '{"count": true, "share": 1}',
        '{"count": 1.0, "share": 1}',
        '{"count": 1, "share": "1"}',
        '{"count": 1, "share": NaN}',
        '{"count": 1, "share": 1e999}',
        '{"count": 1, "share": 1, "anything": {"a": [{"b": NaN}]}}',
        '{"count": 1, "share": 1, "anything": {"a": [{"b": -1e999}]}}',
        '{"count": 1, "share": 1, "inner": {"class": "x", "more": 1}}',
        '{"count": 1, "share": 1, "inner": {"kind": "x"}}',
        '{"count": ' + "1" * 5000 + ', "share": 1}',
        '{"count": 1, "share": 1, "\\ud800": 1}',
        '{"count": 1, "share": 1, "a\\nb\\u001b[31m' + "c" * 9999 + '": 1}',
        '{"count": 1, "share": 1}}',
    ],
)
def test_a_value_of_another_type_is_refused(content: str) -> None:
    with pytest.raises(UserError) as error:
        parse_record(content, Sample, "a.json", "run it again")
    message = str(error.value)
    assert message.isprintable()
    assert len(message) < 400


def test_no_record_holds_a_number_that_json_has_not() -> None:
    for number in (math.nan, math.inf, -math.inf):
        with pytest.raises(ValidationError):
            Sample(count=1, share=number)
        with pytest.raises(ValidationError):
            Sample(count=1, share=1, anything={"a": (1, [number])})


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("{}")
    for path, words in (
        (tmp_path / "a.json", "no such file"),
        (tmp_path / "file" / "a.json", "no such file"),
        (tmp_path, "cannot be read"),
    ):
        with pytest.raises(UserError, match=f"{words}.*; run it again"):
            read_record(path, Sample, "run it again")


def test_a_file_is_checked_against_its_sum(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    with pytest.raises(UserError, match=r"a\.tar: no such file; run it again"):
        check_file(file, "0", "run it again")
    file.write_bytes(b"content")
    check_file(file, sha256(file), "run it again")
    with pytest.raises(UserError, match=r"a\.tar: damaged, not as its record says; run it again"):
        check_file(file, sha256(file)[:-1], "run it again")
