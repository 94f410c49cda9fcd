"""A look at a method's first batches."""

import dataclasses
import math
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class Look:
  """A method's first batches on a model.

  Attributes:
    model, method: Their names.
    blocks: The blocks' names; a scanned layer has an index.
    gradient: Norms before the method; shape (batches, blocks).
    after: Norms after clipping and normalization.
    ratio: Norm of the step over the norm of the parameters.
    flags: {block: what is wrong and what may help}.
  """

  model: str
  method: str
  blocks: list[str]
  gradient: np.ndarray
  after: np.ndarray
  ratio: np.ndarray
  flags: dict[str, str]

  def record(self) -> dict[str, Any]:
    """What JSON can hold of it, to six digits; null where not finite."""
    def digits(norms: np.ndarray) -> list[list[float | None]]:
      return [[float(f'{v:.6g}') if math.isfinite(v) else None for v in row]
              for row in norms]
    return {**dataclasses.asdict(self), 'gradient': digits(self.gradient),
            'after': digits(self.after), 'ratio': digits(self.ratio)}

  @classmethod
  def of(cls, record: dict[str, Any]) -> 'Look':
    """Reads a record.

    >>> ones = np.ones((2, 1))
    >>> look = Look('mlp', 'adam', ['a'], ones, ones, np.nan * ones, {})
    >>> Look.of(look.record()).ratio.tolist()
    [[nan], [nan]]
    """
    gradient, after, ratio = (
        np.array(record[name], np.float64)
        for name in ('gradient', 'after', 'ratio'))
    return cls(record['model'], record['method'], record['blocks'], gradient,
               after, ratio, record['flags'])
