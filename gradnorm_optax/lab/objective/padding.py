"""What is padding in sequences of unequal length, and what is not."""

import numpy as np


def labels(y: np.ndarray, lengths: np.ndarray | None,
           positions: bool) -> np.ndarray:
  """All labels that there are, first axis: labels.

  Args:
    y: Classes, -1 where a position has none, or numbers, NaN there.
    lengths: Positions of each sequence that are no padding, or None.
    positions: Whether every position has a label.

  >>> labels(np.array([[3, -1, 4], [5, 0, 0]]), np.array([3, 1]), True)
  array([3, 4, 5])
  """
  if not positions:
    return y
  flat = y.reshape(-1, *y.shape[2:]) if lengths is None else (
      y[inside(lengths, y.shape[1])])
  bare = flat < 0 if flat.dtype.kind == 'i' else np.isnan(flat)
  return flat[~bare.reshape(len(flat), -1).any(1)]


def inside(lengths: np.ndarray, steps: int) -> np.ndarray:
  """Marks what is no padding; shape (n, steps)."""
  return np.arange(steps) < lengths[:, None]
