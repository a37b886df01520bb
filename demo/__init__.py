"""The page that serves a trained model: knows a workdir, the small runtime, the reader and the phantom; no TensorFlow."""
