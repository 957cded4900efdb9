"""Features of a subject to its table of scores, against its own pictures in many steps."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.errors import one_of
from lcm_lora.evaluation.cells import Compared
from lcm_lora.evaluation.table import score
from lcm_lora.params.reading import load_section
from lcm_lora.params.score import Score
from lcm_lora.params.transfer import Transfer


def run(subject: str) -> None:
    """Run the stage in the working folder."""
    params = load_section(layout.PARAMS, Transfer)
    subject = one_of(subject, params.subjects)
    judged = params.judged(subject, load_section(layout.PARAMS, Score))
    compared = Compared(
        layout.TRANSFER / "features" / subject,
        tuple(params.names(subject)),
        frozenset(params.painters),
        lambda painter: f"lcm-lora transfer-features {subject}",
    )
    score(judged, compared, None, layout.TRANSFER / "scores" / subject / "scores.json")
