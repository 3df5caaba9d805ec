"""`python -m genlab.train`: train a model. `fit` is its Python call, `loop` the only training loop."""
