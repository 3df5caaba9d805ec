"""`python -m genlab.augment`: the Augmenter layer, and a study of whether generated images help a classifier."""
