"""`python -m genlab.encode`: encode images as short codes, and decode them."""
