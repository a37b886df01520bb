"""Tests of the checks around private attributes of libraries."""

import pytest

from trainer import compat


class Optimizer:
    """Stands in for a class of a library."""

    _present = 7


@pytest.mark.parametrize("owner", [Optimizer, Optimizer()])
def test_attribute_that_exists_is_returned(owner):
    assert compat.require_attribute(owner, "_present", "keras") == 7


@pytest.mark.parametrize("owner", [Optimizer, Optimizer()])
@pytest.mark.parametrize("library", ["keras", "no-such-library"])
def test_attribute_that_moved_fails_in_one_line_with_the_fix(owner, library):
    with pytest.raises(RuntimeError) as caught:
        compat.require_attribute(owner, "_absent", library)
    message = str(caught.value)
    assert message.startswith(library)
    # An object is named by its class.
    assert "Optimizer._absent" in message
    assert "pip install -r requirements.lock" in message
    assert "\n" not in message


def test_sharded_builders_have_the_hook_for_writing_records():
    import tensorflow_datasets as tfds  # imported lazily: slow

    compat.require_prepare_hook(tfds.core.ShardBasedBuilder)


def test_archives_of_kagglehub_are_listed(tmp_path, monkeypatch):
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    assert compat.kagglehub_archives("owner/name") == []
    # The layout of kagglehub's cache.
    folder = tmp_path / "datasets" / "owner" / "name"
    folder.mkdir(parents=True)
    (folder / "1.archive").write_bytes(b"x")
    assert compat.kagglehub_archives("owner/name") == [folder / "1.archive"]


def test_endpoint_of_kaggle_follows_the_environment(monkeypatch):
    monkeypatch.delenv("KAGGLE_API_ENVIRONMENT", raising=False)
    assert compat.kaggle_endpoint().startswith("https://")
    monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "TEST")
    assert compat.kaggle_endpoint().startswith("http://localhost")


@pytest.mark.parametrize("scaled", [False, True])
def test_optimizer_does_not_sum_gradients_again(scaled):
    import keras

    inner = keras.optimizers.Adam()
    # The sum of an optimizer with loss scaling is in the one that it wraps.
    optimizer = keras.optimizers.LossScaleOptimizer(inner) if scaled else inner
    compat.sum_gradients_in_step(optimizer)
    pairs = [("gradient", "variable")]
    assert inner._all_reduce_sum_gradients(pairs) is pairs


def test_health_check_interval_of_workers_is_set():
    import tensorflow as tf

    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    compat.set_health_check_interval(strategy, 7)
    assert strategy.extended._check_health_interval == 7


@pytest.mark.parametrize(
    "function",
    [compat.sum_gradients_in_step, lambda owner: compat.set_health_check_interval(owner, 7)],
)
def test_training_attribute_that_moved_fails_in_one_line(function):
    class Moved:
        extended = Optimizer()

    with pytest.raises(RuntimeError, match=r"requirements\.lock"):
        function(Moved())
