"""`python -m genlab.anomaly`: how strange images are to a trained model. This is its Python API."""

from genlab.anomaly.detector import Detector, Findings
from genlab.anomaly.threshold import Threshold

__all__ = ["Detector", "Findings", "Threshold"]
