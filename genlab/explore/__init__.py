"""Explorer: a local web page to play with a trained model, with the extra genlab[explore]."""
