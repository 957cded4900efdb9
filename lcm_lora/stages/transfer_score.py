"""Features of a subject to its table of scores, against its own pictures in many steps."""

from __future__ import annotations

from lcm_lora import layout
from lcm_lora.errors import one_of
from lcm_lora.evaluation.cells import Compared, Map
from lcm_lora.evaluation.table import score
from lcm_lora.params.generate import TEACHER
from lcm_lora.params.reading import load_section
from lcm_lora.params.score import Score
from lcm_lora.params.transfer import WHOLE, Transfer


def run(subject: str) -> None:
    """Run the stage in the working folder."""
    params = load_section(layout.PARAMS, Transfer)
    subject = one_of(subject, params.subjects)
    points = frozenset(mix.name for mix in params.mixes(subject))
    compared = Compared(
        features=layout.TRANSFER / "features" / subject,
        painters=tuple(params.names(subject)),
        rivals=frozenset(params.painters.keys() - {TEACHER}),
        command=lambda painter: f"lcm-lora transfer-features {subject}",
        with_teacher=True,
        map=Map(points, WHOLE.name),
        looks=params.subjects[subject].looks,
    )
    out = layout.TRANSFER / "scores" / subject / "scores.json"
    score(load_section(layout.PARAMS, Score), compared, None, out)
