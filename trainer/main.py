"""Trains one model and writes its workdir.

python -m trainer.main --epochs=13
"""

import os
from collections.abc import Sequence

from absl import app

from trainer import errors, flags_from_config

flags_from_config.define()


def main(argv: Sequence[str]) -> None:
    with errors.reported():
        if len(argv) > 1:
            raise errors.UserError(f"'{argv[1]}' is not a flag; settings are given as --name=value, see --help.")
        config = flags_from_config.parsed()
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        from trainer.training import loop  # TensorFlow loads only when there is work to do.

        print(loop.train_and_evaluate(config))


if __name__ == "__main__":
    app.run(main)
