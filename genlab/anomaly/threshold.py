"""The threshold above which an image counts as strange: a quantile of the scores of held-out images, with a guarantee."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from genlab import bounds
from genlab.errors import UsageError


@dataclasses.dataclass(frozen=True)
class Threshold:
    """Conformal threshold: of new images like the held-out ones, at most the share `false_alarms` is flagged on average.

    With n held-out scores, it is the k-th largest of them, k = floor((n + 1) false_alarms). A new score is equally likely to take
    each place among them, so it is above k - 1 of them or fewer, and not flagged, with probability 1 - k / (n + 1) or more
    (Vovk, Gammerman & Shafer 2005; Angelopoulos & Bates 2021, https://arxiv.org/abs/2107.07511, section 1).
    """

    held_out: np.ndarray
    """Scores of the held-out images, in ascending order, [N]."""
    false_alarms: float
    """The false-alarm rate, above 0 and below 1."""

    @classmethod
    def of(cls, scores: np.ndarray, false_alarms: float) -> Threshold:
        """Make a threshold from scores of held-out images [N]. Raises UsageError if these are too few for the rate, or not finite."""
        false_alarms = bounds.real("false_alarms", false_alarms, 0, 0.5, above=True)
        scores = np.sort(np.asarray(scores, np.float64))
        if not np.isfinite(scores).all():
            raise UsageError(f"{(~np.isfinite(scores)).sum():,} scores of held-out images are not finite.")
        least = math.ceil(1 / false_alarms - 1e-9) - 1
        if len(scores) < least:
            raise UsageError(
                f"a false-alarm rate of {false_alarms:g} needs at least {least:,} held-out images, and there are {len(scores):,}. "
                f"With these, the smallest is {1 / (len(scores) + 1):.2g}: raise --false-alarms, or hold out more images."
            )
        return cls(scores, false_alarms)

    @property
    def above(self) -> int:
        """Number of held-out scores from the threshold up, the threshold included: k."""
        return math.floor((len(self.held_out) + 1) * self.false_alarms + 1e-9)

    @property
    def value(self) -> float:
        """The threshold: a larger score is flagged."""
        return float(self.held_out[len(self.held_out) - self.above])

    def p_values(self, scores: np.ndarray) -> np.ndarray:
        """Return the p-value of each score [N]: (1 + the number of held-out scores as large) / (n + 1). Flagged are those up to
        `false_alarms`."""
        as_large = len(self.held_out) - np.searchsorted(self.held_out, scores, side="left")
        return (1 + as_large) / (len(self.held_out) + 1)

    def interval(self, certainty: float = 0.95) -> tuple[float, float]:
        """Return bounds of the actual false-alarm rate: over draws of held-out images, it is Beta(k, n + 1 - k), without ties."""
        from scipy.stats import beta

        low, high = beta.interval(certainty, self.above, len(self.held_out) + 1 - self.above)
        return float(low), float(high)
