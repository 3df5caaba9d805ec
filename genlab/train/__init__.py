"""`python -m genlab.train`: train a model. `fit` is the Python API, `loop` the only training loop."""
