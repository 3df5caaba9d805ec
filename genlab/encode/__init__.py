"""`python -m genlab.encode`: images to short codes and back."""
