"""Detector: a run's model as a judge of how strange images are, with a threshold from held-out images."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from genlab import bounds
from genlab.anomaly.threshold import Threshold
from genlab.backend import in_parts
from genlab.data.spec import to_model_range, to_pixels
from genlab.errors import UsageError, closest

if TYPE_CHECKING:
    from genlab.data import Dataset
    from genlab.data.dataset import Images
    from genlab.models._scores import Score
    from genlab.run import Run

AT_ONCE = 250
"""Images that are scored at once."""
# Autoencoder of 4 epochs of MNIST without 0, 2, 4, 6 and 8, mean AUROC of these against 2,000 others: 0.953 of the vectors as they are,
# 0.953 of whitened ones, 0.957 of both, 0.934 of their directions.
COMPARED = 60_000
"""Maximum number of training images whose vectors a score compares with."""
NEIGHBOURS = 10
"""Neighbours of the local outlier factor."""
COMPONENTS = 64
"""Principal components to which longer vectors are reduced."""
FITTED = 5000
"""Vectors that the components are fitted to, and that are held in memory at once."""
HELD_OUT = 1000
"""Held-out images that a threshold rests on, if there are as many."""


@dataclasses.dataclass(frozen=True)
class Findings:
    """What a detector says of images."""

    scores: np.ndarray
    """Larger for stranger images, float64 [N]."""
    p_values: np.ndarray
    """Share of images like the held-out ones that are at least as strange, [N]: see `Threshold.p_values`."""
    strange: np.ndarray
    """Whether each image is flagged, bool [N]."""


class Detector:
    """Scores images by how strange they are to a run's model, and flags those above a threshold.

        detector = genlab.anomaly.Detector.from_run("runs/00003-vae-parts", false_alarms=0.01)
        findings = detector(images)  # uint8 [N, H, W, C]: findings.strange, findings.scores, findings.p_values

    What it says of an image depends on nothing but that image.
    """

    def __init__(
        self,
        run: Run,
        score: str = "auto",
        *,
        correct: Literal["none", "complexity"] = "none",
        against: Run | None = None,
        importance_samples: int = 50,
    ) -> None:
        """Prepare a score of a run, without a threshold: see `from_run`, and `calibrate`."""
        self.run = run
        self._scores = _scores_of(run, importance_samples)
        self.name = next(iter(self._scores)) if score == "auto" else score
        if self.name not in self._scores:
            raise UsageError(
                f"{run.config.model} has no score {bounds.shown(score)}{closest(str(score), self._scores)} "
                f"It has {', '.join(self._scores)}."
            )
        self._score = self._scores[self.name]
        if correct not in ("none", "complexity"):
            raise UsageError(f"the correction {bounds.shown(correct)} is unknown. It must be none or complexity.")
        self.correct, self.against = correct, against
        if (correct != "none" or against is not None) and self._score.kind != "bits":
            raise UsageError(
                f"{self.name} of {run.config.model} is no likelihood, which --correct and --against are for. Use --score likelihood."
            )
        if correct != "none" and against is not None:
            raise UsageError("--correct and --against both correct the likelihood; leave one out.")
        self._other = None if against is None else _likelihood_of(against, run, importance_samples)
        self._neighbours = None if self._score.kind != "vector" else _Neighbours(self._score, run.data().images)
        self.threshold: Threshold | None = None
        """The threshold, once there is one."""
        self.calibrated_on = np.zeros((0, *run.model.spec.shape), np.uint8)
        """The images that it comes from, uint8 [N, H, W, C]."""

    @classmethod
    def from_run(
        cls,
        run: str | os.PathLike[str] | Run,
        score: str = "auto",
        *,
        false_alarms: float = 0.01,
        correct: Literal["none", "complexity"] = "none",
        against: str | os.PathLike[str] | Run | None = None,
        held_out: int = HELD_OUT,
        importance_samples: int = 50,
    ) -> Detector:
        """Return a detector with a threshold from held-out images of the run's own data, at most `held_out`.

        `run` and `against` are Runs, or their folder, number or `latest`. `score` is one that the run's model offers, `auto`
        its best; `correct` and `against` are for its likelihood: "complexity" subtracts the length of the image's code, and
        `against` the -log2 p of another run. Raises UsageError if the model has no such score, if nothing is held out, and if
        too few images are for the rate of false alarms.
        """
        from genlab import run as runs

        opened = run if isinstance(run, runs.Run) else runs.open(run)
        other = against if against is None or isinstance(against, runs.Run) else runs.open(against)
        bounds.real("false_alarms", false_alarms, 0, 0.5, above=True)  # before minutes of computing
        bounds.whole("held_out", held_out, 1)
        images = held_out_images(opened, opened.data(), held_out)
        detector = cls(opened, score, correct=correct, against=other, importance_samples=importance_samples)
        detector.calibrate(images, false_alarms)
        return detector

    def calibrate(self, images: npt.ArrayLike, false_alarms: float = 0.01) -> Threshold:
        """Set the threshold from images [N, H, W, C], uint8, that are not strange and that the model was not trained on."""
        self.calibrated_on = _checked(images, self.run)
        self.threshold = Threshold.of(self.score(images), false_alarms)
        return self.threshold

    @property
    def sentence(self) -> str:
        """What the score measures, for the user."""
        if self.correct != "none":
            return f"{self._score.sentence}, less the bits of the image as PNG"
        if self.against is not None:
            return f"{self._score.sentence}, less that of {self.against.name}"
        return self._score.sentence

    @property
    def is_plain_likelihood(self) -> bool:
        """Whether the score is a likelihood without correction, which plain images deceive."""
        return self._score.kind == "bits" and self.correct == "none" and self.against is None

    def __call__(self, images: npt.ArrayLike) -> Findings:
        """Score and flag images, uint8 [N, H, W, C]. Raises UsageError for images of another shape, and without a threshold."""
        return self.findings(self.score(images))

    def findings(self, scores: np.ndarray) -> Findings:
        """Flag images with these scores [N]."""
        if self.threshold is None:
            raise UsageError("the detector has no threshold. Call calibrate with images that are not strange.")
        p_values = self.threshold.p_values(scores)
        return Findings(scores, p_values, scores > self.threshold.value)

    def score(self, images: npt.ArrayLike) -> np.ndarray:
        """Return how strange images are, float64 [N], for uint8 [N, H, W, C]. Raises UsageError for images of another shape."""
        images = _checked(images, self.run)
        return in_parts(self._score_part, images, size=AT_ONCE) if len(images) else np.zeros(0)

    def _score_part(self, images: np.ndarray) -> np.ndarray:
        scaled = np.asarray(to_model_range(images))
        found = np.asarray(self._score.of(scaled), np.float64)
        if self._neighbours is not None:
            return self._neighbours.outlier_factor(found)
        if self.correct == "complexity":
            from genlab.anomaly.complexity import code_length

            described = images if self._score.described is None else to_pixels(self._score.described(scaled))
            return found - code_length(described)
        return found if self._other is None else found - np.asarray(self._other.of(scaled), np.float64)


class _Neighbours:
    """How far vectors are from those of training images, compared with how far these are apart.

    Vectors of many dimensions are reduced to their principal components. Distances are measured twice, between these as they are
    and with unit variance each: a class may differ in what varies most among the others, or in what hardly does.
    """

    def __init__(self, score: Score, training: Images) -> None:
        from sklearn.decomposition import PCA
        from sklearn.neighbors import LocalOutlierFactor

        def vectors(rows: np.ndarray) -> np.ndarray:
            return in_parts(lambda part: score.of(np.asarray(to_model_range(training[part]))), rows, size=AT_ONCE)

        rows = np.random.default_rng(0).permutation(len(training))[:COMPARED]
        first = vectors(rows[:FITTED])
        self._components = PCA(min(COMPONENTS, *first.shape), random_state=0).fit(first)
        parts = [self._components.transform(first)]
        for start in range(FITTED, len(rows), FITTED):  # the vectors themselves may take gigabytes
            parts.append(self._components.transform(vectors(rows[start : start + FITTED])))
        reduced = np.concatenate(parts)
        self._scales = (1.0, np.sqrt(self._components.explained_variance_).clip(1e-6))
        neighbours = min(NEIGHBOURS, len(rows) - 1)
        self._fitted = [LocalOutlierFactor(neighbours, novelty=True).fit(reduced / scale) for scale in self._scales]

    def outlier_factor(self, vectors: np.ndarray) -> np.ndarray:
        """Return the geometric mean of both local outlier factors of vectors [N, D], [N].

        It is about 1 among training images, larger away from them: Breunig et al. 2000, "LOF: Identifying Density-Based Local
        Outliers" (https://doi.org/10.1145/342009.335388), of scikit-learn.
        """
        reduced = self._components.transform(vectors)
        factors = [
            -fitted.score_samples(reduced / scale) for fitted, scale in zip(self._fitted, self._scales, strict=True)
        ]
        return np.sqrt(np.prod(factors, axis=0))


def held_out_images(run: Run, dataset: Dataset, count: int) -> np.ndarray:
    """Return at most `count` images that the run was not trained on: of its validation set, else of its test images.

    Raises UsageError if the data has neither.
    """
    if set(dataset.parts()) == {"train"}:
        raise UsageError(
            f"nothing of {dataset.name} was held out when {run.name} was trained, and a threshold from images that the model knows "
            "would be too low. Train with --split 0.8/0.1/0.1."
        )
    return dataset.held_out(count)[0]


def _scores_of(run: Run, importance_samples: int) -> dict[str, Score]:
    """Return the scores of a run's model. Raises UsageError if it has none."""
    if not run.model.spec.is_image:
        raise UsageError(f"{run.path} was trained on points, not images.")
    scores = run.model.anomaly_scores(importance_samples)
    if not scores:
        raise UsageError(f"{run.config.model} has no score of strange images: its anomaly_scores states none.")
    return scores


def _likelihood_of(other: Run, run: Run, importance_samples: int) -> Score:
    """Return the likelihood of another run. Raises UsageError if it has none, or one of other images."""
    found = [score for score in _scores_of(other, importance_samples).values() if score.kind == "bits"]
    if not found:
        raise UsageError(f"--against {other.name}: {other.config.model} has no likelihood. Use a vae or a flow.")
    if other.model.spec.shape != run.model.spec.shape:
        raise UsageError(
            f"--against {other.name} was trained on shape {list(other.model.spec.shape)}; {run.name} on {list(run.model.spec.shape)}."
        )
    return found[0]


def _checked(images: npt.ArrayLike, run: Run) -> np.ndarray:
    shape = run.model.spec.shape
    try:
        found = np.asarray(images)
    except ValueError:
        raise UsageError("images are not an array; all of them must have one shape.") from None
    if found.dtype != np.uint8 or found.shape[1:] != shape:
        raise UsageError(
            f"images are {found.dtype} {list(found.shape)}; they must be uint8 [N, {', '.join(map(str, shape))}], as {run.name} was "
            "trained on."
        )
    return found
