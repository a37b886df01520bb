"""Makes batches for trainers on other machines: one dispatcher and any number of input machines.

python -m trainer.input_server --port=5050                          the dispatcher, once
python -m trainer.input_server --dispatcher=HOST:5050               on each input machine
python -m trainer.main --data_service=grpc://HOST:5050 …
"""

import socket

from absl import flags

from trainer import cli, errors, tf_startup

_PORT = flags.DEFINE_integer(
    "port", 0, "Port to listen on; 0 for any free port.", lower_bound=0, upper_bound=65535
)
_DISPATCHER = flags.DEFINE_string(
    "dispatcher",
    None,
    "HOST:PORT of the dispatcher to make batches for. Default: start a dispatcher.",
)
_NAME = flags.DEFINE_string(
    "name",
    None,
    "Name or address under which the trainers reach this machine. Default: its host name.",
)


def main() -> None:
    """Runs a dispatcher, or an input machine of one, until it is stopped."""
    if _DISPATCHER.value and ":" not in _DISPATCHER.value:
        raise errors.UserError(f"--dispatcher={_DISPATCHER.value}: give HOST:PORT.")
    tf_startup.start_tensorflow()
    import tensorflow as tf
    from tensorflow.data.experimental import service

    host = _NAME.value or socket.gethostname()
    try:
        if _DISPATCHER.value:
            server = service.WorkerServer(
                service.WorkerConfig(
                    dispatcher_address=_DISPATCHER.value,
                    worker_address=f"{host}:%port%",  # TensorFlow fills in the port.
                    port=_PORT.value,
                    dispatcher_timeout_ms=30_000,  # TensorFlow's default waits for an hour.
                )
            )
            print(f"making batches for {_DISPATCHER.value}", flush=True)
        else:
            server = service.DispatchServer(service.DispatcherConfig(port=_PORT.value))
            address = f"{host}:{server.target.rsplit(':', 1)[1]}"  # The port may have been 0.
            print(
                f"input machines: --dispatcher={address}; "
                f"trainers: --data_service=grpc://{address}",
                flush=True,
            )
    except tf.errors.OpError as error:
        reason = str(error).splitlines()[0][:150]  # TensorFlow appends a stack of C++ calls.
        endpoint = _DISPATCHER.value or f"port {_PORT.value}"
        raise errors.UserError(f"{endpoint} cannot be used ({reason}); see --help.") from error
    server.join()


if __name__ == "__main__":
    cli.run(main)
