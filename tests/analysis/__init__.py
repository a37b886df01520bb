"""Tests of trainer.analysis."""
