"""Tests of trainer.experiments."""
