"""Trains one model and writes its workdir.

python -m trainer.main --epochs=13
"""

from collections.abc import Sequence

from absl import app, flags

from trainer import config_flags, errors, tf_startup

config_flags.define()
flags.adopt_module_key_flags(config_flags)  # --help lists them.


def main(argv: Sequence[str]) -> None:
    with errors.reported():
        if len(argv) > 1:
            raise errors.UserError(
                f"'{argv[1]}' is not a flag; settings are given as --name=value, see --help."
            )
        config = config_flags.parsed()
        tf_startup.start_tensorflow()  # Only now: --help must not wait for it.
        from trainer.experiments import repeats

        print(repeats.train(config))


if __name__ == "__main__":
    app.run(main)
