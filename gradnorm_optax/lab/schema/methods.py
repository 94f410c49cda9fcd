"""`[methods.NAME]`: how it is trained, one row of the comparison."""

from typing import Any, Literal

import pydantic

from gradnorm_optax.lab.schema.base import (
  Number,
  PositiveFloat,
  PositiveInt,
  Rates,
  Share,
  Table,
  Whole,
  complaint,
)


class BlocksTable(Table):
  """The arguments of `gn.Blocks`, written as a table."""

  # None: the method's own: layer for bng, leaf for sing, unit for
  # weight_normalized.
  by: Literal['leaf', 'layer', 'unit', 'global'] | None = None
  stacked: dict[str, Whole | tuple[Whole, ...]] = {}
  fan_in: dict[str, Whole | tuple[Whole, ...]] = {}
  units: dict[str, Whole | tuple[Whole, ...]] = {}
  skip: tuple[str, ...] = ()


class Sampling(Table):
  """Which examples of a batch a recurrent net is trained on, by `gn.sgr`.

  The batch is the pool. Q is the logarithm of the gradient's norm a share
  `horizon` of the sequence back (of it, where `relative`, that at the end).
  """

  # sgr selects from the pool where Q leaves its range, and takes the first
  # `size` of it otherwise; random always does.
  rule: Literal['sgr', 'random'] = 'sgr'
  size: PositiveInt = 20
  horizon: Share = 0.9
  low: Number = -2.5  # a narrow range acts at every step and does not learn
  high: Number = 1.0
  relative: bool = True

  @pydantic.model_validator(mode='after')
  def _a_range(self) -> 'Sampling':
    if self.low > self.high:
      raise complaint(f'low ({self.low:g}) must not exceed high '
                      f'({self.high:g})')
    if self.rule == 'random':
      for key in ('horizon', 'low', 'high', 'relative'):
        self.idle(key, 'rule = "sgr"')
    return self


class Method(Table):
  """One row of the comparison: an optimizer and what stands around it.

  The chain is built in the order clip, normalize, optimizer, then wrapped.
  """

  optimizer: str
  options: dict[str, Any] = {}
  clip: PositiveFloat | None = None
  normalize: tuple[str, ...] = ()  # a single name stands for a list of it
  blocks: BlocksTable | None = None  # a name stands for its `by`
  ratio: PositiveFloat | None = None
  wrap: str | None = None
  where: tuple[str, ...] | None = None  # globs of what `wrap` acts on
  sampling: Sampling | None = None
  pascanu: PositiveFloat | None = None  # weight of Pascanu's regularizer
  lookahead: PositiveInt | None = None
  lookahead_alpha: Share = 0.5
  learning_rates: Rates | None = None
  models: tuple[str, ...] | None = None  # names or globs; None: all

  @pydantic.field_validator('normalize', 'where', mode='before')
  @classmethod
  def _listed(cls, given: Any) -> Any:
    return (given,) if isinstance(given, str) else given

  @pydantic.field_validator('blocks', mode='before')
  @classmethod
  def _tabled(cls, given: Any) -> Any:
    return {'by': given} if isinstance(given, str) else given

  @pydantic.model_validator(mode='after')
  def _nothing_idle(self) -> 'Method':
    if self.lookahead is None:
      self.idle('lookahead_alpha', 'lookahead')
    if self.wrap is None:
      self.idle('where', 'wrap')
    return self

  @property
  def alone(self) -> 'Method':
    """The method without the rates and the models that it is run on."""
    return self.model_copy(update={'learning_rates': None, 'models': None})
