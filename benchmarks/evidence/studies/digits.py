"""scikit-learn's digits for the studies: 8x8 pictures with values in [0, 1]."""

import functools
from typing import NamedTuple

import numpy as np
from sklearn import datasets


class Digits(NamedTuple):
  """Pictures (n, 64), float32, and classes, int32, in three parts."""

  train: tuple[np.ndarray, np.ndarray]
  validation: tuple[np.ndarray, np.ndarray]
  test: tuple[np.ndarray, np.ndarray]


@functools.cache
def load(train: int = 1001, validation: int = 398) -> Digits:
  """Divides the 1797 pictures, always the same way: 1001, 398 and 398."""
  x, y = datasets.load_digits(return_X_y=True)
  order = np.random.default_rng(0).permutation(len(x))
  x, y = (x[order] / 16).astype(np.float32), y[order].astype(np.int32)
  cuts = [0, train, train + validation, len(x)]
  return Digits(*((x[a:b], y[a:b])
                  for a, b in zip(cuts[:-1], cuts[1:], strict=True)))
