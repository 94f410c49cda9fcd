"""`[methods.NAME]`: how it is trained, one row of the comparison."""

from typing import Any, Literal

import pydantic

from gradnorm_optax.lab.schema.base import (
  Number,
  OrAuto,
  PositiveFloat,
  PositiveInt,
  Rates,
  Searchable,
  Share,
  Table,
  Whole,
  complaint,
)
from gradnorm_optax.lab.schema.recipes import spelt_out
from gradnorm_optax.lab.schema.search import MethodSearch


class BlocksTable(Table):
  """The arguments of `gn.Blocks`, written as a table."""

  by: Literal['leaf', 'layer', 'unit', 'global'] | None = None
  """What is taken together; none: the method's own, layer for bng, leaf for
  sing, unit for row_normalized_momentum and what `wrap` names."""
  stacked: dict[str, Whole | tuple[Whole, ...]] = {}
  """{glob: axis} of arrays that carry a layer axis."""
  fan_in: dict[str, Whole | tuple[Whole, ...]] = {}
  """{glob: axes} of the inputs of a unit."""
  units: dict[str, Whole | tuple[Whole, ...]] = {}
  """{glob: axis} of the outputs."""
  skip: tuple[str, ...] = ()
  """Globs of arrays that are left as they are."""


class Sampling(Table):
  """Which examples of a batch a recurrent net is trained on, by `gn.sgr`.

  The batch is the pool. Q is the logarithm of the gradient's norm a share
  `horizon` of the sequence back (of it, where `relative`, that at the end).
  """

  rule: Literal['sgr', 'random'] = 'sgr'
  """sgr selects from the pool where Q leaves its range, and takes the first
  `size` of it otherwise; random always does that."""
  size: OrAuto[PositiveInt] = 20
  """Examples that are trained on, of the batch; auto: a fifth of it."""
  horizon: OrAuto[Share] = 0.9
  """How far back Q looks, a share of the sequence; auto: 0.9."""
  low: OrAuto[Number] = -2.5
  """Of the range of Q. A narrow range acts at every step and does not learn.
  auto: learned from the first 100 steps, where relative within [-2.5, 1]."""
  high: OrAuto[Number] = 1.0
  """Of the range of Q, or auto."""
  relative: bool = True
  """Whether Q is relative to the gradient's norm at the end."""

  @pydantic.model_validator(mode='after')
  def _a_range(self) -> 'Sampling':
    if not isinstance(self.low, str) and not isinstance(self.high, str) and (
        self.low > self.high):
      raise complaint(f'low ({self.low:g}) must not exceed high '
                      f'({self.high:g})')
    if self.rule == 'random':
      for key in ('horizon', 'low', 'high', 'relative'):
        self.idle(key, 'rule = "sgr"')
    return self

  def taken(self, pool: int) -> int:
    """How many examples are taken of a pool.

    >>> Sampling(size='auto').taken(100), Sampling(size=8).taken(100)
    (20, 8)
    """
    return max(1, pool // 5) if isinstance(self.size, str) else self.size

  def back(self, steps: int) -> int:
    """How many steps back Q looks in a sequence of so many.

    >>> Sampling(horizon='auto').back(101)
    90
    """
    share = 0.9 if isinstance(self.horizon, str) else self.horizon
    return round(share * (steps - 1))

  @property
  def learns(self) -> bool:
    """Whether an end of the range is learned."""
    return 'auto' in (self.low, self.high)


class Method(Searchable):
  """One row of the comparison: an optimizer and what stands around it.

  The chain is built in the order clip, normalize, optimizer, then wrapped.
  """

  optimizer: str
  """A name of `gradnorm methods`, a recipe's too, or your own,
  "package.module:function"."""
  options: dict[str, Any] = {}
  """Arguments of the optimizer besides its learning rate."""
  clip: PositiveFloat | None = None
  """The global norm to which the gradient is clipped, first."""
  normalize: tuple[str, ...] = ()
  """What stands before the optimizer; a single name stands for a list of it."""
  blocks: BlocksTable | None = None
  """What `normalize`, `wrap`, "sing" or "row_normalized_momentum" takes
  together, and the axes for "muon"; a name stands for its `by`."""
  ratio: PositiveFloat | None = None
  """Of "bng": a block's gradient gets this share of its parameters' norm."""
  wrap: str | None = None
  """What stands around all of it."""
  where: tuple[str, ...] | None = None
  """Globs of the arrays that `wrap` acts on; none: "*kernel"."""
  sampling: Sampling | None = None
  """Recurrent nets: which examples of a batch are trained on."""
  pascanu: PositiveFloat | None = None
  """Recurrent nets: the weight of Pascanu's regularizer."""
  lookahead: PositiveInt | None = None
  """Slow weights every so many steps; the fast are evaluated."""
  lookahead_alpha: Share = 0.5
  """How far the slow weights follow."""
  learning_rates: Rates | None = None
  """A grid of its own, of the common size."""
  search: MethodSearch | None = None
  """Ranges of its own, with as many points."""
  models: tuple[str, ...] | None = None
  """Names or globs of the models it is run on; none: all."""

  @pydantic.model_validator(mode='before')
  @classmethod
  def _recipe(cls, given: Any) -> Any:
    return spelt_out(given)

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
    """The method without what is searched and the models it is run on."""
    return self.model_copy(update={
        'learning_rates': None, 'search': None, 'models': None})
