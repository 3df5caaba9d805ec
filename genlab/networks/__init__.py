"""Building blocks of networks and of their training."""
