"""`[train]` and `[run]`: how long a run is, and the one of `gradnorm train`."""

from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field

from gradnorm_optax.lab.schema.base import (
  Number,
  PositiveFloat,
  PositiveInt,
  Share,
  Table,
  Whole,
  complaint,
)
from gradnorm_optax.lab.support.errors import nearest

SCORES = ('accuracy', 'balanced_accuracy', 'f1', 'auc', 'average_precision')


def _text(value: Any) -> Any:
  """A class as its name: 1 and True as they would be written."""
  return str(value) if isinstance(value, int | float) else value


ClassName = Annotated[str, pydantic.BeforeValidator(_text)]


class Train(Table):
  """How one run trains."""

  steps: PositiveInt = 1000
  batch_size: PositiveInt = 100
  accumulate: PositiveInt = 1  # parts of a batch, averaged before the method
  dtype: Literal['float32', 'bfloat16'] = 'float32'  # of the computation
  eval_every: PositiveInt = 50
  schedule: Literal['constant', 'step', 'cosine', 'linear'] = 'constant'
  warmup: Annotated[Number, Field(ge=0.0, lt=1.0)] = 0.0  # share of the steps
  # Shares of the steps.
  decay_at: Annotated[tuple[Share, ...], Field(min_length=1)] = (0.5, 0.75)
  decay_factor: PositiveFloat = 0.1
  # auto: cross_entropy for classes, squared_error for numbers.
  loss: str = 'auto'
  # accuracy, balanced_accuracy, f1, auc, average_precision, or
  # "module:function"; higher is better. None: that of the labels.
  score: str | None = None
  positive: ClassName | None = None  # of two classes; None: the rarer
  # What the loss of each class counts; one that is not named counts 1.
  class_weight: Literal['balanced'] | dict[
      ClassName, PositiveFloat] | None = None

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

  @pydantic.model_validator(mode='after')
  def _whole_chunks(self) -> 'Train':
    if self.steps % self.eval_every:
      raise complaint(f'steps ({self.steps}) must be a multiple of eval_every '
                      f'({self.eval_every})')
    if self.batch_size % self.accumulate:
      raise complaint(f'batch_size ({self.batch_size}) must be a multiple of '
                      f'accumulate ({self.accumulate})')
    return self


class Run(Table):
  """The one run that `gradnorm train` makes."""

  model: str | None = None  # None: the first
  method: str | None = None
  learning_rate: PositiveFloat = 0.01
  seed: Annotated[Whole, Field(ge=0, lt=2**31)] = 0
  checkpoint_every: PositiveInt = 1  # evaluations
  keep: PositiveInt = 3  # checkpoints, besides the best
  non_finite: Literal['stop', 'skip'] = 'stop'
  max_skips: PositiveInt = 10  # in a row
  look: Annotated[Whole, Field(ge=0)] = 24  # evaluations that show the blocks

  @pydantic.model_validator(mode='after')
  def _nothing_idle(self) -> 'Run':
    if self.non_finite != 'skip':
      self.idle('max_skips', 'non_finite = "skip"')
    return self
