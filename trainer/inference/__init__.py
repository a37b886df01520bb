"""From a finished model to answers: exports, and the small runtime that needs no TensorFlow."""
