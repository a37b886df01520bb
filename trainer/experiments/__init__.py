"""One training run or many, from the data to the report."""
