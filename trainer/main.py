"""Trains one model and writes its workdir.

python -m trainer.main --epochs=13
"""

from trainer import cli, config_flags, tf_startup, workdir

config_flags.define_flags()


def main() -> None:
    """Trains the model, or the models, that the flags describe."""
    config = workdir.locate_runs(config_flags.parse_flags())
    tf_startup.start_tensorflow()  # after the flags: --help needs no TensorFlow
    from trainer.experiments import repeats

    print(repeats.run(config))


if __name__ == "__main__":
    cli.run(main)
