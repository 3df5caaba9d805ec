"""The runs of a folder: what they are, how they ended, what they take; and deleting those that are not needed."""
