"""Tests of trainer.data and of the builders in datasets/."""
