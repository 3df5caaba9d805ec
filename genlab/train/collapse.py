"""Cheap detection of failed training: mode collapse, or losses that show one network has won."""

from __future__ import annotations

import numpy as np

from genlab.backend import Tensor
from genlab.models.base import GenerativeModel

BEGIN = 0.2
"""Fraction of a run without warnings: at first, every model draws one blob."""
PATIENCE = 3
"""Number of consecutive times that a problem must be found before the warning."""
DIVERSITY = 0.4
"""Smallest diversity of samples, relative to that of real images."""
COVERAGE = 0.5
"""Smallest fraction of the real images' classes that samples must cover."""


def diversity(images: Tensor) -> float:
    """Return the mean Euclidean distance between pairs of images (or vectors) [N, ...]; 0 for a single one."""
    from scipy.spatial.distance import pdist

    return float(np.mean(pdist(np.asarray(images, np.float64).reshape(len(images), -1)) if len(images) > 1 else 0.0))


class Watch:
    """Collects warnings and returns each once, after it was found PATIENCE times in a row."""

    def __init__(self, model: GenerativeModel, real: Tensor) -> None:
        """Measure the diversity of `real` images in [-1, 1], or vectors: as many as the samples to compare."""
        self.model = model
        self.real_diversity = diversity(real)
        self._seen: dict[str, dict[str, int]] = {}
        """How many times in a row each warning was found, by source and key."""

    def metrics(self, metrics: dict[str, float]) -> list[str]:
        """Return the warnings about a log line's metrics."""
        return self._persistent("metrics", self.model.warnings(metrics))

    def samples(self, drawn: Tensor) -> list[str]:
        """Return the warnings about samples [N, ...] in [-1, 1] of the fixed latents."""
        if not self.real_diversity > 0:  # one real image, or identical ones: there is no diversity to lose
            return []
        ratio = diversity(drawn) / self.real_diversity
        if ratio >= DIVERSITY:
            return self._persistent("samples", {})
        text = (
            f"samples differ from each other {ratio:.2f} times as much as real images do: mode collapse. Try minibatch "
            "discrimination or standard deviation, an R1 penalty or lower learning rates."
        )
        return self._persistent("samples", {"diversity": text})

    def classes(self, reached: float, real: float) -> list[str]:
        """Return the warnings about the number of classes that a quick evaluation found."""
        if reached >= COVERAGE * real:
            return self._persistent("classes", {})
        text = (
            f"samples cover {reached:.0f} of {real:.0f} classes: mode collapse. Try minibatch discrimination, a larger "
            "--batch-size or lower learning rates."
        )
        return self._persistent("classes", {"classes": text})

    def _persistent(self, source: str, found: dict[str, str]) -> list[str]:
        before = self._seen.get(source, {})
        self._seen[source] = {key: before.get(key, 0) + 1 for key in found}
        return [text for key, text in found.items() if self._seen[source][key] == PATIENCE]
