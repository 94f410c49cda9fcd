"""Examples ready to train on: three parts and what they are."""

from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab.data.preprocessing import Preprocessing
from gradnorm_optax.lab.objective import objective as objective_lib

COUNTED = 1_000_000  # symbols of a mapped text


class Split(NamedTuple):
  """Inputs and targets, first axis: examples.

  Attributes:
    x: Inputs, float32, or symbols, int32; padded where lengths differ. Symbols
      of a text lie in a mapped file, as small whole numbers without a sign.
    y: Classes, int32, or standardized numbers, float32; of a text as `x`.
    lengths: Positions of each sequence that are no padding, int32; None where
      all are as long.
  """

  x: np.ndarray
  y: np.ndarray
  lengths: np.ndarray | None = None

  @property
  def mapped(self) -> bool:
    """Whether the examples lie in a file that may exceed the memory."""
    return isinstance(self.x, np.memmap)

  def labelled(self) -> 'Split':
    """All, or of a mapped file enough to count labels."""
    rows = max(1, COUNTED // self.x.shape[1]) if self.mapped else None
    return Split(self.x[:rows], self.y[:rows], self.lengths)


class Dataset(NamedTuple):
  """Three parts of one set of examples.

  Attributes:
    train, validation, test: The parts; statistics come from `train` alone.
    outputs: How many outputs a model needs: classes, symbols, or numbers.
    image: Height, width and channels where an example is a picture.
    description: One line for the report: where the examples come from, how
      many there are, and everything that was left out, filled or noticed.
    objective: The loss and the quality.
    symbols: Of how many kinds the inputs are where they are symbols.
    readout: At how many of the last steps a sequence is read, outputs having
      shape (B, readout, outputs); None where labels say it themselves.
    preprocessing: What was fitted on the training part; None of generated sets.
    groups: To which group each example of the test part belongs (`data.group`).
  """

  train: Split
  validation: Split
  test: Split
  outputs: int
  image: tuple[int, int, int] | None
  description: str
  objective: objective_lib.Objective
  symbols: int | None = None
  readout: int | None = None
  preprocessing: Preprocessing | None = None
  groups: np.ndarray | None = None

  @property
  def deviation(self) -> float | None:
    """That of the test part's labels in their own unit, of one number each."""
    scale = self.preprocessing and self.preprocessing.label_scale
    if scale is None or np.ndim(self.test.y) > 1:
      return None
    return float(np.nanstd(self.test.y) * scale)


def sizes(parts: list[Split]) -> str:
  return ' + '.join(f'{len(part.y)} {name}' for part, name in zip(
      parts, ('training', 'validation', 'test'), strict=True))
