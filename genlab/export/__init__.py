"""`python -m genlab.export`: model files for other programs, each checked against the run."""
