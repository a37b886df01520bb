"""Exports of a trained model, and prediction from them without TensorFlow."""
