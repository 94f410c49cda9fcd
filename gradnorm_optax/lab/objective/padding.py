"""What is padding in sequences of unequal length, and what is not."""

import numpy as np


def flat(y: np.ndarray, lengths: np.ndarray | None) -> np.ndarray:
  """The labels of all positions that are no padding, first axis: labels."""
  if lengths is None:
    return y.reshape(-1, *y.shape[2:])
  return y[inside(lengths, y.shape[1])]


def inside(lengths: np.ndarray, steps: int) -> np.ndarray:
  """Marks what is no padding; shape (n, steps)."""
  return np.arange(steps) < lengths[:, None]
