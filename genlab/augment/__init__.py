"""`python -m genlab.augment`: a trained decoder among real images, and whether that helps a classifier."""
