"""`[train]` and `[run]`: how long a run is, and the one of `gradnorm train`."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from gradnorm_optax.lab.schema.base import (
  NonNegativeInt,
  Number,
  PositiveFloat,
  PositiveInt,
  Share,
  Table,
  Whole,
  complaint,
)
from gradnorm_optax.lab.schema.devices import Cut, Mesh
from gradnorm_optax.lab.support.errors import nearest

SCORES = ('accuracy', 'balanced_accuracy', 'f1', 'auc', 'average_precision')


def _text(value: Any) -> Any:
  """A class as its name: 1 and True as they would be written."""
  return str(value) if isinstance(value, int | float) else value


ClassName = Annotated[str, pydantic.BeforeValidator(_text)]


class Train(Table):
  """How one run trains."""

  steps: PositiveInt = 1000
  """Steps of a run, a multiple of eval_every."""
  batch_size: PositiveInt = 100
  """Examples of a step."""
  accumulate: PositiveInt = 1
  """Parts of a batch, averaged before the method."""
  dtype: Literal['float32', 'bfloat16'] = 'float32'
  """Of the computation; parameters stay float32."""
  eval_every: PositiveInt = 50
  """Steps between evaluations."""
  schedule: Literal['constant', 'step', 'cosine', 'linear'] = 'constant'
  """How the learning rate falls."""
  warmup: Annotated[Number, Field(ge=0.0, lt=1.0)] = 0.0
  """Share of the steps in which it rises from 0."""
  decay_at: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5, 0.75)
  """Shares of the steps at which "step" falls; "linear" falls to 0 from the
  first on."""
  decay_factor: PositiveFloat = 0.1
  """What "step" multiplies the rate by."""
  loss: str = 'auto'
  """auto: cross_entropy for classes, squared_error for numbers; also
  absolute_error, huber, or your own, "module:function"."""
  score: str | None = None
  """accuracy, balanced_accuracy, f1, auc, average_precision, or your own,
  "module:function"; higher is better. None: that of the labels."""
  positive: ClassName | None = None
  """Of two classes the one that f1, auc and average_precision look for; none:
  the rarer."""
  class_weight: Literal['balanced'] | dict[
      ClassName, PositiveFloat] | None = None
  """What the loss of each class counts; one that is not named counts 1."""

  @pydantic.model_validator(mode='after')
  def _known_loss(self) -> 'Train':
    known = ('auto', 'cross_entropy', 'squared_error', 'absolute_error',
             'huber')
    if self.loss not in known and ':' not in self.loss:
      raise complaint(f'unknown loss {self.loss!r}{nearest(self.loss, known)} '
                      '(your own is written "package.module:function")')
    if self.score is not None and self.score not in SCORES and (
        ':' not in self.score):
      raise complaint(f'unknown score {self.score!r}'
                      f'{nearest(self.score, SCORES)} (your own is written '
                      '"package.module:function")')
    return self

  @property
  def weights(self) -> dict[str, float]:
    """The weights of the classes that are named."""
    return self.class_weight if isinstance(self.class_weight, dict) else {}

  @pydantic.model_validator(mode='after')
  def _nothing_idle(self) -> 'Train':
    if self.schedule not in ('step', 'linear'):
      self.idle('decay_at', 'schedule = "step" and "linear"')
    if self.schedule != 'step':
      self.idle('decay_factor', 'schedule = "step"')
    return self

  def batch(self, examples: int) -> int:
    """How many of so many training examples a step takes."""
    return min(self.batch_size,
               examples // self.accumulate * self.accumulate)

  def per_epoch(self, examples: int) -> int:
    """How many steps an epoch of so many training examples has."""
    return examples // self.batch(examples)

  @pydantic.model_validator(mode='after')
  def _whole_chunks(self) -> 'Train':
    if self.steps % self.eval_every:
      raise complaint(f'steps ({self.steps}) must be a multiple of eval_every '
                      f'({self.eval_every})')
    if self.batch_size % self.accumulate:
      raise complaint(f'batch_size ({self.batch_size}) must be a multiple of '
                      f'accumulate ({self.accumulate})')
    return self


def _ordered(ends: tuple[float, ...]) -> tuple[float, ...]:
  if ends[-1] < ends[0]:
    raise complaint(f'[{ends[0]:g}, {ends[1]:g}]: low must be at most high')
  return ends


Ends = Annotated[
    tuple[Annotated[Number, Field(ge=0.0)], ...],
    Field(min_length=1, max_length=2), pydantic.AfterValidator(_ordered)]


class Watch(Table):
  """Which blocks leave their safe range in the run of `gradnorm train`."""

  every: NonNegativeInt = 10
  """Steps between readings of every block's norms; 0: none."""
  learn: NonNegativeInt = 100
  """Steps from whose readings safe ranges of the gradient are learned; 0: none
  are."""
  margin: Annotated[Number, Field(ge=1.0)] = 1000.0
  """By which factor a learned range is wider than those readings."""
  ranges: dict[str, Ends] = {}
  """Safe norms of the gradient by block, [low, high] or [low]:
  { "layer0*" = [1e-6, 10] }; they are not learned then."""
  ratios: dict[str, Ends] = {}
  """The same of the update over the parameters: { "*" = [0, 0.1] }; never
  learned, for learning rates fall. Without any they are read ten times less
  often."""

  @pydantic.model_validator(mode='after')
  def _nothing_idle(self) -> 'Watch':
    if not self.every:
      for key in ('learn', 'ranges', 'ratios'):
        self.idle(key, 'every above 0')
    if not self.learn or not self.every:
      self.idle('margin', 'learn above 0')
    return self


class Run(Table):
  """The one run that `gradnorm train` makes."""

  model: str | None = None
  """Which model; none: the first."""
  method: str | None = None
  """Which method; none: the first."""
  learning_rate: PositiveFloat = 0.01
  """The peak of the schedule."""
  seed: Annotated[Whole, Field(ge=0, lt=2**31)] = 0
  """Of the start and of the order of the examples."""
  checkpoint_every: PositiveInt = 1
  """Evaluations between checkpoints."""
  keep: PositiveInt = 3
  """Checkpoints kept, besides the best."""
  non_finite: Literal['stop', 'skip'] = 'stop'
  """What is done where a gradient is not finite."""
  max_skips: PositiveInt = 10
  """So many are skipped in a row."""
  look: Annotated[Whole, Field(ge=0)] = 24
  """Evaluations that show the blocks; 0: none."""
  watch: Watch = Watch()
  """What is watched between them."""
  mesh: Mesh = Mesh()
  """Over how many devices the run is spread."""
  sharding: dict[str, Cut] = {}
  """{glob: for each axis of the parameter the mesh axis that cuts it, "" for
  none}; without one, fsdp cuts the longest axis that it divides."""

  @pydantic.model_validator(mode='after')
  def _nothing_idle(self) -> 'Run':
    if self.non_finite != 'skip':
      self.idle('max_skips', 'non_finite = "skip"')
    return self
