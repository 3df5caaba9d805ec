"""An eye on training that costs next to nothing: samples that grow alike, losses that say that the game is over."""

from __future__ import annotations

from typing import Any

import numpy as np

from genlab.models.base import GenerativeModel

BEGIN = 0.2
"""Share of a run before which nothing is said: every model draws one blob at first."""
PATIENCE = 3
"""How many times in a row something must be seen before it is said."""
DIVERSITY = 0.4
"""How far apart samples must be, as a share of how far apart real images are."""
COVERAGE = 0.5
"""Share of the real images' classes that samples must reach."""


def diversity(images: Any) -> float:
    """Mean Euclidean distance between two of the images (or vectors) [N, ...]."""
    from scipy.spatial.distance import pdist

    return float(pdist(np.asarray(images, np.float64).reshape(len(images), -1)).mean())


class Watch:
    """Gathers warnings and gives each once, when it has been seen often enough to be meant."""

    def __init__(self, model: GenerativeModel, real: Any) -> None:
        """`real` images in [-1, 1], or vectors, as many as the samples that will be shown."""
        self.model = model
        self.real_diversity = diversity(real)
        self._seen: dict[str, dict[str, int]] = {}
        """By what was looked at: how many times in a row each warning was found, by its key."""

    def metrics(self, metrics: dict[str, float]) -> list[str]:
        """What is to be said of a log line's metrics."""
        return self._persistent("metrics", self.model.warnings(metrics))

    def samples(self, drawn: Any) -> list[str]:
        """What is to be said of the fixed latents' samples, [-1, 1]."""
        ratio = diversity(drawn) / self.real_diversity
        if ratio >= DIVERSITY:
            return self._persistent("samples", {})
        text = (
            f"samples differ from each other {ratio:.2f} times as much as real images do: the generator has collapsed or is about "
            "to. Minibatch discrimination or standard deviation, an R1 penalty or lower rates are the usual cures."
        )
        return self._persistent("samples", {"diversity": text})

    def classes(self, reached: float, real: float) -> list[str]:
        """What is to be said of how many classes a quick evaluation found."""
        if reached >= COVERAGE * real:
            return self._persistent("classes", {})
        text = (
            f"samples are of {reached:.0f} of {real:.0f} classes: modes are missing. Minibatch discrimination, a larger "
            "--batch-size or lower rates are the usual cures."
        )
        return self._persistent("classes", {"classes": text})

    def _persistent(self, source: str, found: dict[str, str]) -> list[str]:
        before = self._seen.get(source, {})
        self._seen[source] = {key: before.get(key, 0) + 1 for key in found}
        return [text for key, text in found.items() if self._seen[source][key] == PATIENCE]
