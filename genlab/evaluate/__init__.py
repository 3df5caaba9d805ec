"""`python -m genlab.evaluate`: measure trained runs. `metrics/` holds functions of arrays."""
