"""`python -m genlab.transfer`: a trained network as the backbone of a classifier. These are the library calls."""

from genlab.transfer.backbone import classifier, freeze, unfreeze, weights_trained

__all__ = ["classifier", "freeze", "unfreeze", "weights_trained"]
