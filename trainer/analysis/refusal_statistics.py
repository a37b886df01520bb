"""Statistics of training radiographs behind a refusal: neighbours, log odds, thresholds.

statistics = statistics_of(edges, features)
centre, spread = thresholds(out_of_fold_scores(edges, features, groups, seed))
"""

from typing import Any

import numpy as np

from trainer.analysis import input_checks

FALSE_REFUSAL_RATE = 0.02
_NEIGHBOUR = 5  # The distance is to the fifth nearest radiograph.
_FOLDS = 10


def statistics_of(edges: np.ndarray, features: np.ndarray) -> dict[str, Any]:
    """Computes the fields of `Refusal` that do not need scores out of fold."""
    scale = float(np.abs(features).mean()) or 1.0
    squashed = squash(features, scale)  # [n, d]
    mean = squashed.mean(axis=0)
    deviation = squashed.std(axis=0)
    # A feature that never changes may change a little.
    deviation = np.maximum(deviation, 1e-3 * deviation.mean() + 1e-9)
    weights, bias = input_checks.discriminants(edges)
    return {
        "neighbours": ((squashed - mean) / deviation).astype(np.float32),
        "scale": scale,
        "mean": mean.astype(np.float32),
        "deviation": deviation.astype(np.float32),
        "weights": weights,
        "bias": bias,
    }


def squash(features: np.ndarray, scale: float) -> np.ndarray:
    """Compresses large features by an asinh."""
    return np.arcsinh(10.0 * np.asarray(features, np.float64) / scale)


def raw_scores(
    statistics: dict[str, Any],
    features: np.ndarray,
    edges: np.ndarray,
) -> np.ndarray:
    """Scores radiographs by their features and by their edges.

    The distance is written out, since inference does without scikit-learn.

    Args:
      statistics: as `statistics_of` returns them.
      features: [n, d] float, of the network.
      edges: [n, 128] float32, of the pictures as they are.

    Returns:
      [n, 2] float: distance to the fifth nearest radiograph, log odds of an alteration.
    """
    squashed = squash(features, statistics["scale"])
    rows = (squashed - statistics["mean"]) / statistics["deviation"]  # [n, d]
    neighbours = statistics["neighbours"]
    norms = (rows**2).sum(axis=1)[:, None] + (neighbours**2).sum(axis=1)
    squared = norms - 2.0 * rows @ neighbours.T  # [n, m]
    nearest = np.partition(squared, _NEIGHBOUR - 1, axis=1)[:, _NEIGHBOUR - 1]
    return np.stack(
        [
            np.sqrt(np.maximum(nearest, 0.0)),  # Rounding may give less than 0.
            alteration_odds(edges, statistics["weights"], statistics["bias"]),
        ],
        axis=1,
    )


def alteration_odds(
    edges: np.ndarray,
    weights: np.ndarray,
    bias: np.ndarray,
) -> np.ndarray:
    """Computes the log odds of any alteration against none, [n] float."""
    return np.logaddexp.reduce(edges.astype(np.float64) @ weights + bias, axis=1)


def out_of_fold_scores(
    edges: np.ndarray,
    features: np.ndarray,
    groups: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Scores radiographs with statistics fitted without them and their patients.

    Returns:
      [n, 2] float, the network's and the edges' score.
    """
    from sklearn.model_selection import GroupKFold

    scores = np.empty((len(groups), 2))
    folds = GroupKFold(_FOLDS, shuffle=True, random_state=seed)
    for fitted, held_out in folds.split(groups, groups=groups):
        scores[held_out] = raw_scores(
            statistics_of(edges[fitted], features[fitted]),
            features[held_out],
            edges[held_out, 0],  # Unaltered: [n_held_out, 128].
        )
    return scores


def thresholds(scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Scales two scores: the worse exceeds 1 in 2 % of radiographs.

    The network's score causes a quarter of these: what it alone sees lies far beyond any
    radiograph, while a crop is a near miss to the edges.

    Args:
      scores: [n, 2] float, out of fold.

    Returns:
      (centre, spread), [2] each.
    """
    centre = np.median(scores, axis=0)  # [2]
    bounds = [
        np.quantile(scores[:, 0], 1.0 - FALSE_REFUSAL_RATE / 4),
        np.quantile(scores[:, 1], 1.0 - FALSE_REFUSAL_RATE),
    ]
    spread = np.maximum(bounds - centre, 1e-9)
    # The conformal quantile of the worse score.
    worst = np.sort(((scores - centre) / spread).max(axis=1))
    rank = int(np.ceil((len(worst) + 1) * (1.0 - FALSE_REFUSAL_RATE)))
    return centre, spread * max(worst[rank - 1], 1e-9)
