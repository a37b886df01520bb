"""Trains one model and writes its workdir.

python -m trainer.main --epochs=13
"""

from collections.abc import Sequence

from absl import app, flags

from trainer import errors, flags_from_config, quiet

flags_from_config.define()
flags.adopt_module_key_flags(flags_from_config)  # --help lists them.


def main(argv: Sequence[str]) -> None:
    with errors.reported():
        if len(argv) > 1:
            raise errors.UserError(f"'{argv[1]}' is not a flag; settings are given as --name=value, see --help.")
        config = flags_from_config.parsed()
        quiet.start_tensorflow()  # Only now: --help must not wait for it.
        from trainer.training import repeats

        print(repeats.train(config))


if __name__ == "__main__":
    app.run(main)
