"""The tests: fast ones by default, slow and browser ones marked."""
