"""Radiographs and sets of radiographs: reading, preparing, synthetic ones."""
