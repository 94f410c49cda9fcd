"""`[compare]` and the whole configuration."""

import fnmatch
from collections.abc import Iterator
from typing import Annotated

import pydantic
from pydantic import Field

from gradnorm_optax.lab.schema.base import (
  NonNegativeInt,
  Number,
  PositiveInt,
  Rates,
  Searchable,
  Table,
  Whole,
  complaint,
)
from gradnorm_optax.lab.schema.data import Data
from gradnorm_optax.lab.schema.methods import Method
from gradnorm_optax.lab.schema.models import Model
from gradnorm_optax.lab.schema.search import Choice, Search, faults
from gradnorm_optax.lab.schema.training import Run, Train
from gradnorm_optax.lab.support.errors import nearest


class Compare(Searchable):
  """Which trials a comparison makes and how they are spread."""

  learning_rates: Rates = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
  """The grid that every method searches."""
  search: Search | None = None
  """More than the rate is searched, in place of grids; none: grids are."""
  extend: NonNegativeInt = 0
  """How often a model's grids may widen: where a best rate lies on an edge, all
  methods get one rate more, each at the end that its best one is nearer to."""
  halving: bool = False
  """Whether only the better half of a method's rates goes on after a quarter of
  the steps."""
  tune_seeds: Annotated[Whole, Field(ge=1, le=1000)] = 2
  """Seeds that choose a rate; others are judged."""
  seeds: PositiveInt = 5
  """Fresh seeds, run at the chosen rate and judged."""
  target: Number | None = None
  """The validation score whose first step is reported; none: 0.9 where scores
  are shares, else no target."""
  baseline: str | None = None
  """The method to beat; none: the best plain optimizer of tuning."""
  workers: NonNegativeInt = 0
  """Threads that compile and run trials; 0: one for each core."""
  trials_per_call: NonNegativeInt = 0
  """Trials that share a call; 0: one on a CPU, all of a method elsewhere."""
  timing_rounds: Annotated[Whole, Field(ge=2)] = 15
  """Rounds in which the cost of a step is measured."""
  look: NonNegativeInt = 24
  """Steps of a run in which the blocks are shown; 0: none."""


  @property
  def tried(self) -> int:
    """How many rates or points every method has."""
    return (len(self.learning_rates) if self.search is None
            else self.search.points)

  @pydantic.model_validator(mode='after')
  def _nothing_idle(self) -> 'Compare':
    if self.search is not None:
      self.idle('learning_rates', 'grids; write search.learning_rate')
      self.idle('extend', 'grids; the ranges of a search stay as they are')
    return self


class Config(Table):
  """A whole configuration."""

  name: Annotated[str, Field(
      pattern=r'^[\w.-]+$', json_schema_extra={'unset': 'of the file'})]
  """Names the run folder; the file's name if not given, or its folder's where
  the file is config.toml."""
  title: str = ''
  """The heading of the report."""
  data: Data = Data()
  """Where the examples come from."""
  models: Annotated[dict[str, Model], Field(min_length=1)]
  """What is trained, one table for each."""
  methods: Annotated[dict[str, Method], Field(min_length=1)]
  """How it is trained, one table for each."""
  train: Train = Train()
  """How every run trains."""
  run: Run = Run()
  """The one run of `gradnorm train`."""
  compare: Compare = Compare()
  """The trials of `gradnorm compare`."""

  @pydantic.model_validator(mode='after')
  def _consistent(self) -> 'Config':
    """Tells all that does not go together at once."""
    found = [*self._grids(), *self._choices(), *self._names(),
             *self._searched()]
    if found:
      raise complaint('\n'.join(found))
    return self

  def _grids(self) -> Iterator[str]:
    size = self.compare.tried
    if size == 2:
      yield (
          'compare.learning_rates has 2 values: both are edges of the grid, '
          'and a best rate on an edge allows no recommendation; give three or '
          'more (or one, which searches nothing)')
    if size < 3:
      for key in ('extend', 'halving'):
        if getattr(self.compare, key):
          yield f'compare.{key} needs grids of three rates or more, not {size}'
    if self.compare.halving and self.train.steps < 4 * self.train.eval_every:
      yield ('compare.halving judges after a quarter of the steps: '
             f'train.eval_every ({self.train.eval_every}) must be at most '
             f'{self.train.steps // 4}')
    for name, method in self.methods.items():
      if self.compare.search is None and method.learning_rates and len(
          method.learning_rates) != size:
        yield (
            f'methods.{name}.learning_rates has {len(method.learning_rates)} '
            f'values, compare.learning_rates has {size}: every method must '
            'search a grid of the same size')

  def _searched(self) -> Iterator[str]:
    for name, method in self.methods.items():
      if self.compare.search is not None:
        if method.learning_rates:
          yield (f'methods.{name}.learning_rates has no effect with '
                 f'compare.search; write methods.{name}.search.learning_rate')
        for fault in faults(method, self.train, self.choices(name)):
          yield f'search of methods.{name}: {fault}'
      elif method.search is not None:
        yield (f'methods.{name}.search belongs to [compare.search], which '
               'gives the number of points')

  def choices(self, method: str) -> dict[str, Choice]:
    """What is searched of a method besides its rate, known to it or not."""
    own = self.methods[method].search
    return (self.compare.search.choices() if self.compare.search else {}) | (
        own.choices() if own else {})

  def _choices(self) -> Iterator[str]:
    for name, method in self.methods.items():
      batch = self.train.batch_size
      if method.sampling and method.sampling.taken(batch) > batch:
        yield (
            f'methods.{name}.sampling.size ({method.sampling.size}) exceeds '
            f'train.batch_size ({self.train.batch_size}), the pool')
      if method.sampling and method.pascanu and (
          method.sampling.rule != 'random'):
        yield f'methods.{name}: with pascanu, sampling.rule must be "random"'
      if (method.sampling or method.pascanu) and self.train.accumulate > 1:
        yield (f'methods.{name}: sampling and pascanu look at a whole batch; '
               'set train.accumulate = 1')

  def _names(self) -> Iterator[str]:
    for name, method in self.methods.items():
      for glob in method.models or ():
        if not fnmatch.filter(self.models, glob):
          yield (f'methods.{name}.models: unknown model {glob!r}'
                 f'{nearest(glob, self.models)}')
    for model in self.models:
      if not self.methods_on(model):
        yield (f'models.{model}: no method runs on it (see `models` of the '
               'methods)')
    base = self.compare.baseline
    if base is not None and base not in self.methods:
      yield (f'compare.baseline: unknown method {base!r}'
             f'{nearest(base, self.methods)}')
    for key, tables in (('model', self.models), ('method', self.methods)):
      name = getattr(self.run, key)
      if name is not None and name not in tables:
        yield f'run.{key}: unknown name {name!r}{nearest(name, tables)}'

  def methods_on(self, model: str) -> dict[str, Method]:
    """The methods that run on a model."""
    return {name: method for name, method in self.methods.items()
            if method.models is None or any(
                fnmatch.fnmatchcase(model, glob) for glob in method.models)}

  def user_functions(self, model: str | None = None,
                     method: str | None = None) -> list[str]:
    """The user's own functions: of one model, one method and the loss, or all.

    Those of the data come with all of them alone.
    """
    models = self.models.values() if model is None else [self.models[model]]
    methods = self.methods.values() if method is None else [
        self.methods[method]]
    names = [*(one.optimizer for one in methods),
             *(getattr(one, 'target', '') for one in models), self.train.loss,
             self.train.score or '']
    if model is None and method is None:
      names += self.data.functions()
    return [name for name in names if ':' in name]
