"""`python -m genlab.transfer`: a trained network as the backbone of a classifier. This is its Python API."""

from genlab.transfer.backbone import classifier, freeze, unfreeze, weights_trained

__all__ = ["classifier", "freeze", "unfreeze", "weights_trained"]
