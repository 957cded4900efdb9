"""All networks of the parameters as one row of viewers; each is loaded when first needed.

Legend: B pictures, H x W pixels, N pictures in all, D dimensions.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from lcm_lora.seeing.attributes import attributes_of_captions
from lcm_lora.seeing.clip_score import clip_scores
from lcm_lora.seeing.looking import Viewer, exactly
from lcm_lora.seeing.network_files import Networks
from lcm_lora.seeing.networks import (
    ClipScorer,
    Embed,
    load_attribute_judge,
    load_clip_scorer,
    load_feature_network,
    load_judge_of_looks,
)
from lcm_lora.seeing.resize import prepare
from lcm_lora.shapes.judge import AttributeJudge, Attributes
from lcm_lora.shapes.looks_judge import LooksJudge, Sight

Captions = tuple[str, ...]


@dataclass
class Viewers:
    """The networks, on a device."""

    networks: Networks
    device: torch.device
    _embedded: dict[Captions, Tensor] = field(default_factory=dict)
    _made: dict[Captions, dict[str, Viewer]] = field(default_factory=dict)
    _read: tuple[Tensor, Attributes | Sight] | None = None
    """The last pictures, and what the judge read from them: several arrays tell of it."""

    def of(self, captions: Captions) -> dict[str, Viewer]:
        """Return a viewer for each array of a file of features, by the array's name.

        They are made once for all chunks of sets of the same captions, which are long to read.
        """
        if captions not in self._made:
            self._made[captions] = self._make(captions)
        return self._made[captions]

    def _make(self, captions: Captions) -> dict[str, Viewer]:
        viewers = {f"features/{name}": self.features(name) for name in self.networks.features}
        viewers["clip"] = self.clip(captions)
        return viewers | {name: self.judged(captions, name) for name in self.networks.judged}

    def features(self, name: str) -> Viewer:
        """Return a viewer of features [B, D], of one network."""
        embed = self._embeds[name]
        return lambda pictures, places: embed(pictures)

    def clip(self, captions: Captions) -> Viewer:
        """Return a viewer of CLIP scores [B]."""
        words = self.words(captions).numpy()

        def view(pictures: Tensor, places: slice) -> Tensor:
            seen = self._clip.pictures(pictures).cpu().numpy()
            return torch.from_numpy(clip_scores(seen, words[places]))

        return view

    def judged(self, captions: Captions, name: str) -> Viewer:
        """Return a viewer of one of the judge's arrays, [B].

        Args:
            captions: Of the shapes world.
            name: `attributes` gives 1 where a picture shows all that its caption says, `look` where
                it has the looks that are wanted and no other, `both` where both hold.

        Raises:
            UserError: A caption is not of the shapes world.
        """
        file = self.networks.attributes
        assert file is not None
        promised = attributes_of_captions(captions)

        def view(pictures: Tensor, places: slice) -> Tensor:
            figures, ground = promised.figures[places], promised.ground[places]
            wanted = Attributes(figures.to(self.device), ground.to(self.device))
            if self._read is None or self._read[0] is not pictures:
                judge = self._judge if self.networks.looks is None else self._judge_of_looks
                self._read = pictures, judge.read(prepare(pictures, file.preparation))
            return self._verdicts(self._read[1], wanted)[name]

        return view

    def _verdicts(self, seen: Attributes | Sight, wanted: Attributes) -> dict[str, Tensor]:
        if isinstance(seen, Attributes):
            return {"attributes": wanted.agree(seen)}
        assert self.networks.looks is not None
        content, look = wanted.agree(seen.attributes), seen.has_exactly(self.networks.looks)
        return {"attributes": content, "look": look, "both": content & look}

    def words(self, captions: Captions) -> Tensor:
        """Return the captions' embeddings, made once for all sets of the same captions."""
        if captions not in self._embedded:
            with exactly():
                self._embedded[captions] = self._clip.captions(captions)
        return self._embedded[captions]

    @cached_property
    def _embeds(self) -> dict[str, Embed]:
        files = self.networks.features
        return {name: load_feature_network(file, self.device) for name, file in files.items()}

    @cached_property
    def _clip(self) -> ClipScorer:
        return load_clip_scorer(self.networks.clip, self.device)

    @cached_property
    def _judge(self) -> AttributeJudge:
        assert self.networks.attributes is not None
        return load_attribute_judge(self.networks.attributes, self.device)

    @cached_property
    def _judge_of_looks(self) -> LooksJudge:
        assert self.networks.attributes is not None
        return load_judge_of_looks(self.networks.attributes, self.device)
