"""Everything done with a trained model or a data set."""
