"""`python -m genlab.evaluate`: measure trained runs. `metrics/` are functions of arrays."""
