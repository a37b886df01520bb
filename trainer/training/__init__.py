"""Everything that makes a model: batches, augmentation, networks, the loop. Needs TensorFlow."""

from trainer import tf_startup

tf_startup.set_up_keras()  # Before the first layer is made, by a command or by anybody's program.
