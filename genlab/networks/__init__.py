"""What networks are built of and trained with."""
