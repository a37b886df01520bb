"""Makes batches for trainers on other machines: one dispatcher, and as many input machines as they need.

python -m trainer.input_server --port=5050                          the dispatcher, once
python -m trainer.input_server --dispatcher=HOST:5050               on each input machine
python -m trainer.main --data_service=grpc://HOST:5050 …
"""

import socket
from collections.abc import Sequence

from absl import app, flags

from trainer import errors, tf_startup

_PORT = flags.DEFINE_integer(
    "port", 0, "Port to listen on; 0 for any that is free.", lower_bound=0, upper_bound=65535
)
_DISPATCHER = flags.DEFINE_string(
    "dispatcher", None, "Make batches for this one, HOST:PORT; by default this is a dispatcher."
)
_NAME = flags.DEFINE_string(
    "name",
    None,
    "Name or address under which the trainers reach this machine; default: its own name.",
)


def main(argv: Sequence[str]) -> None:
    with errors.reported():
        if len(argv) > 1:
            raise errors.UserError(
                f"'{argv[1]}' is not a flag; settings are given as --name=value, see --help."
            )
        if _DISPATCHER.value and ":" not in _DISPATCHER.value:
            raise errors.UserError(f"--dispatcher={_DISPATCHER.value}: give HOST:PORT.")
        tf_startup.start_tensorflow()
        _serve().join()


def _serve():
    import tensorflow as tf

    service, name = tf.data.experimental.service, _NAME.value or socket.gethostname()
    try:
        if _DISPATCHER.value is None:
            server = service.DispatchServer(service.DispatcherConfig(port=_PORT.value))
            port = server.target.rsplit(":", 1)[1]
            print(
                f"input machines: --dispatcher={name}:{port}; trainers: "
                f"--data_service=grpc://{name}:{port}",
                flush=True,
            )
            return server
        server = service.WorkerServer(
            service.WorkerConfig(
                dispatcher_address=_DISPATCHER.value,
                worker_address=f"{name}:%port%",
                port=_PORT.value,
                dispatcher_timeout_ms=30_000,
            )
        )
    except tf.errors.OpError as error:
        where = (
            f"the dispatcher {_DISPATCHER.value}" if _DISPATCHER.value else f"port {_PORT.value}"
        )
        raise errors.UserError(
            f"{where} cannot be used ({str(error).splitlines()[0][:150]}); see --help."
        ) from error
    print(f"making batches for {_DISPATCHER.value}", flush=True)
    return server


if __name__ == "__main__":
    app.run(main)
