"""Measurements that are too long for a test, each a command."""
