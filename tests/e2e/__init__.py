"""The commands, run as a user would run them."""
