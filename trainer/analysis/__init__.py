"""Pure functions from arrays to numbers and figures; no TensorFlow."""
