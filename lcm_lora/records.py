"""The one door for the JSON files that stages hand to each other: typed records, strictly read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from lcm_lora.errors import UserError
from lcm_lora.files import sha256, write_json

RecordT = TypeVar("RecordT", bound="Record")

_LONGEST = 160
"""Characters that a message quotes of a file, at most."""


def _finite(values: dict[str, Any]) -> dict[str, Any]:
    pending: list[Any] = [values]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            pending.extend(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise PydanticCustomError("finite", "Numbers should be finite")
    return values


Open = Annotated[dict[str, Any], AfterValidator(_finite)]
"""A field of any keys and values: pydantic looks for NaN and infinity in typed numbers only."""


class Record(BaseModel):
    """What one kind of file holds: frozen, no unknown keys, every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


def write_record(path: Path, record: Record) -> None:
    """Replace the file `path` by a record, in one step."""
    write_json(path, record.model_dump(mode="json", by_alias=True))


def read_record(path: Path, kind: type[RecordT], mend: str) -> RecordT:
    """Read a record of a kind.

    Args:
        path: Its file.
        kind: Its class.
        mend: What the user can do if it is missing or damaged, such as "run `lcm-lora encode`".

    Raises:
        UserError: The file is missing, or is not such a record.
    """
    return parse_record(read_bytes(path, mend), kind, str(path), mend)


def read_bytes(path: Path, mend: str) -> bytes:
    """Return what a file holds.

    Raises:
        UserError: It is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path}: no such file; {mend}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); {mend}") from None


def parse_record(content: str | bytes, kind: type[RecordT], where: str, mend: str) -> RecordT:
    """Read a record from the JSON that `where` holds; see `read_record`."""
    try:
        return kind.model_validate_json(content, strict=True)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in problem["loc"])
        what = f"{_quoted(place)}: {problem['msg']}" if place else problem["msg"]
        kinds = (
            kind.__doc__.partition("\n")[0].rstrip(".").partition(":")[0] if kind.__doc__ else ""
        )
        raise UserError(f"{where}: damaged ({kinds}; {what}); {mend}") from None


def check_file(path: Path, expected: str, mend: str) -> None:
    """Check a file against the SHA-256 in its record.

    Raises:
        UserError: It is missing or damaged.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; {mend}")
    if sha256(path) != expected:
        raise UserError(f"{path}: damaged, not as its record says; {mend}")


def _quoted(text: str) -> str:
    """Return text of a file as it fits into a line; a damaged key may hold anything."""
    short = text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
    return "".join(letter if letter.isprintable() else "?" for letter in short)
