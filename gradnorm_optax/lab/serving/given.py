"""What was given to be answered: examples as they were read, with names."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from gradnorm_optax.lab.data.raw import Raw


class Given(NamedTuple):
  """Examples as they were read.

  Attributes:
    raw: The examples; their labels mean nothing.
    title: What they are: 'row', 'example' or 'file'.
    names: What messages call each of them: its line, its number, its path.
    known: Which could be read; None for all.
  """

  raw: Raw
  title: str
  names: Sequence[Any]
  known: np.ndarray | None = None
