"""`python -m genlab.export`: files that other programs run, each checked against the run."""
