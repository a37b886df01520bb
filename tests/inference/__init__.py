"""Tests of trainer.inference."""
