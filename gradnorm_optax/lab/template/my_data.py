"""Your data: inputs and labels. Here: two noisy spirals, made up."""

import numpy as np


def load():
  """Returns (inputs, labels); NaN marks a missing cell.

  A list of arrays of unequal length is padded; see docs/lab.md.
  """
  rng = np.random.default_rng(0)
  kind = rng.integers(2, size=800)
  turn = rng.uniform(0.5, 3.0, size=800)
  angle = 2 * turn + np.pi * kind
  x = np.stack([turn * np.cos(angle), turn * np.sin(angle)], axis=1)
  x += rng.normal(0, 0.15, size=x.shape)
  x[rng.random(x.shape) < 0.01] = np.nan
  return x, kind
