"""What users read of errors."""

from __future__ import annotations

import pytest

from lcm_lora.errors import reason


@pytest.mark.parametrize("who", ["anna:very", "anna:v@ry", "token"])
def test_a_reason_is_one_line_without_passwords(who: str) -> None:
    said = reason(OSError(f"http://{who}@host/x\n  and postgresql://{who}@host:80 failed for a@b"))
    assert said == "OSError: http://host/x and postgresql://host:80 failed for a@b"
