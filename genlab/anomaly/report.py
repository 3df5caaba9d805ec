"""What a detector found in a source: scores, how many images are flagged, and the AUROC where it is known what is strange."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
from typing import Any

import numpy as np

from genlab import console
from genlab.anomaly.detector import AT_ONCE, Detector, Findings
from genlab.anomaly.images import Chosen
from genlab.errors import UsageError

MANY = 5.0
"""Factor above the expected share of images at which a remark is made."""


@dataclasses.dataclass(frozen=True)
class Group:
    """Images that belong together."""

    name: str
    images: int
    flagged: int

    @property
    def share(self) -> float:
        return self.flagged / max(1, self.images)


@dataclasses.dataclass(frozen=True)
class Report:
    """Scores of images by a detector."""

    detector: Detector
    chosen: Chosen
    findings: Findings
    known: int
    """How many of the images are among the held-out ones that the threshold comes from."""

    @property
    def groups(self) -> list[Group]:
        """All images; and those that count as normal and as strange, if the user named them."""
        kinds, flagged = self.chosen.kinds, self.findings.strange
        found = [Group(self.chosen.name, len(kinds), int(flagged.sum()))]
        if self.chosen.stated:
            for name, kind in (("normal", 0), ("strange", 1)):
                found.append(Group(name, int((kinds == kind).sum()), int(flagged[kinds == kind].sum())))
        return found

    @property
    def auroc(self) -> float | None:
        """Area under the ROC curve; None if there are no normal or no strange images to compare."""
        return auroc(self._normal, self.findings.scores[self.chosen.kinds == 1])

    @property
    def _normal(self) -> np.ndarray:
        """Scores of normal images: those of the data, else the held-out ones of the run."""
        normal = self.findings.scores[self.chosen.kinds == 0]
        assert self.detector.threshold is not None
        return normal if len(normal) else self.detector.threshold.held_out

    @property
    def compared(self) -> str:
        """What the AUROC compares."""
        if not self.chosen.stated:
            return (
                f"all {len(self.chosen):,} images of {self.chosen.name} against the {len(self._normal):,} held-out ones"
            )
        kinds = self.chosen.kinds
        if not (kinds == 0).any():
            return f"{(kinds == 1).sum():,} strange images against the {len(self._normal):,} held-out ones"
        return f"{(kinds == 1).sum():,} strange images against {(kinds == 0).sum():,} normal ones"

    def remarks(self) -> list[str]:
        """Return what the user should know of the numbers."""
        found = []
        if self.known:
            found.append(
                f"{self.known:,} of these images are among the held-out ones, which set the threshold: how many of them are flagged "
                "follows from --false-alarms"
            )
        assert self.detector.threshold is not None
        held_out = self.detector.threshold.held_out
        plain = float((self.findings.scores < np.quantile(held_out, 0.05)).mean())
        if self.detector.is_plain_likelihood and plain > MANY * 0.05:
            found.append(
                f"{plain:.0%} of these images are more likely than 95% of the held-out ones. Plain images are likely, however strange "
                "they are: add --correct complexity, or use another score"
            )
        return found

    def csv(self) -> str:
        """Return a table of all images, the strangest first."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["image", "class", "score", "p_value", "flagged"])
        writer.writerows(
            [row["image"], row["class"] or "", f"{row['score']:.6g}", f"{row['p_value']:.6g}", int(row["flagged"])]
            for row in self.rows()
        )
        return text.getvalue()

    def rows(self) -> list[dict[str, Any]]:
        """Return name, class, score, p-value and verdict of each image, the strangest first."""
        labels, names, found = self.chosen.labels, self.chosen.names, self.findings
        return [
            {
                "image": names[number],
                "class": None if labels is None else self.chosen.class_names[labels[number]],
                "score": float(found.scores[number]),
                "p_value": float(found.p_values[number]),
                "flagged": bool(found.strange[number]),
            }
            for number in self.order
        ]

    @property
    def order(self) -> np.ndarray:
        """Numbers of the images, the strangest first."""
        return np.argsort(-self.findings.scores, kind="stable")

    def to_json(self) -> dict[str, Any]:
        detector, threshold = self.detector, self.detector.threshold
        assert threshold is not None
        return {
            "run": detector.run.name,
            "step": detector.run.step,
            "score": detector.name,
            "measures": detector.sentence,
            "correct": detector.correct,
            "against": None if detector.against is None else detector.against.name,
            "data": self.chosen.name,
            "threshold": threshold.value,
            "false_alarms": threshold.false_alarms,
            "false_alarms_95": list(threshold.interval()),
            "held_out": len(threshold.held_out),
            "groups": {group.name: {"images": group.images, "flagged": group.flagged} for group in self.groups},
            "auroc": self.auroc,
            "compared": None if self.auroc is None else self.compared,
            "remarks": self.remarks(),
            "images": self.rows(),
        }


def make(detector: Detector, chosen: Chosen) -> Report:
    """Score all images, some at a time. Raises UsageError if there are none, or a score is not a number."""
    if not len(chosen):
        raise UsageError(f"{chosen.name} has no images to score.")
    scores, known = [], 0
    seen = {_digest(image) for image in detector.calibrated_on}
    with console.progress(total=len(chosen), unit="image") as bar:
        for start in range(0, len(chosen), AT_ONCE):
            images = chosen.take(np.arange(start, min(len(chosen), start + AT_ONCE)))
            known += sum(_digest(image) in seen for image in images)
            scores.append(detector.score(images))
            bar.update(len(images))
    return Report(detector, chosen, detector.findings(np.concatenate(scores)), known)


def auroc(normal: np.ndarray, strange: np.ndarray) -> float | None:
    """Return the probability that a strange image has a higher score than a normal one; None if there are none of a kind."""
    from sklearn.metrics import roc_auc_score

    if not len(normal) or not len(strange):
        return None
    return float(roc_auc_score(np.repeat([0, 1], [len(normal), len(strange)]), np.concatenate([normal, strange])))


def _digest(image: np.ndarray) -> bytes:
    return hashlib.sha256(image.tobytes()).digest()
