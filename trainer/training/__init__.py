"""Everything that makes a model: batches, augmentation, networks, the loop. Needs TensorFlow."""
