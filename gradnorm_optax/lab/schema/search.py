"""`[compare.search]`: what is searched besides the learning rate."""

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import pydantic
from pydantic import Field

from gradnorm_optax.lab.schema.base import (
  NonNegativeInt,
  PositiveFloat,
  Table,
  Whole,
  complaint,
)

Settings = tuple[tuple[str, Any], ...]  # (dotted key, value), in their order


class Range(Table):
  """A range that is searched on a logarithmic scale."""

  low: PositiveFloat
  """Its least value."""
  high: PositiveFloat
  """Its largest value."""

  @pydantic.model_validator(mode='after')
  def _ordered(self) -> 'Range':
    if not self.low < self.high:
      raise complaint(f'low ({self.low:g}) must be below high ({self.high:g})')
    return self

  def place(self, value: float) -> float:
    """Where a value lies, from 0 to 1.

    >>> Range(low=1e-4, high=1.0).place(1e-2)
    0.5
    """
    return math.log(value / self.low) / math.log(self.high / self.low)

  def at(self, place: float) -> float:
    """The value at a place, to three digits: those that a report shows.

    >>> Range(low=1e-4, high=1.0).at(0.5), Range(low=0.9, high=0.9996).at(1.0)
    (0.01, 0.9996)
    """
    found = float(f'{self.low * (self.high / self.low) ** place:.3g}')
    return min(max(self.low, found), self.high)


Choice = tuple[Any, ...] | Range


def _choice(given: Any) -> Choice:
  """A list of values, or a range."""
  if isinstance(given, Range):
    return given
  if isinstance(given, list | tuple) and given:
    twice = [value for at, value in enumerate(given) if value in given[:at]]
    if twice:
      raise complaint(f'{twice[0]!r} is listed twice')
    return tuple(given)
  if isinstance(given, Mapping) and set(given) == {'low', 'high'} and all(
      isinstance(end, int | float) and not isinstance(end, bool)
      for end in given.values()) and (
          0 < given['low'] < given['high'] < math.inf):
    return Range(**given)
  raise complaint('takes a list, or { low = ..., high = ... } with '
                  f'0 < low < high, searched on a log scale, not {given!r}')


TAKES = pydantic.WithJsonSchema({'type': 'list or { low, high }'})
Choices = Annotated[Any, pydantic.PlainValidator(_choice), TAKES]


class TrainSearch(Table):
  """What of the schedule is searched."""

  warmup: Choices | None = None
  """Of train.warmup."""
  schedule: Choices | None = None
  """Of train.schedule."""


class MethodSearch(Table):
  """What a method searches in place of what all methods do."""

  learning_rate: Range | None = None
  """Its range: { low = 1e-4, high = 1e-1 }."""
  options: dict[str, Choices] = {}
  """Of options of the optimizer, a list or a range each: { weight_decay = [0.0,
  1e-2] }. Methods that have no such option do not vary it."""
  clip: Choices | None = None
  """The same of clip."""
  ratio: Choices | None = None
  """The same of ratio, where the method is "bng"."""
  train: TrainSearch = TrainSearch()
  """The same of the schedule of the learning rate."""

  @pydantic.model_validator(mode='before')
  @classmethod
  def _nested(cls, given: Any) -> Any:
    """Takes "options.weight_decay" in quotes, too."""
    if not isinstance(given, Mapping):
      return given
    found: dict[str, Any] = {}
    for key, value in given.items():
      table, dot, name = str(key).partition('.')
      if dot:
        found[table] = {**found.get(table, {}), name: value}
      else:
        found[key] = {**found[key], **value} if isinstance(
            found.get(key), dict) and isinstance(value, dict) else value
    return found

  def choices(self) -> dict[str, Choice]:
    """What is searched besides the rate, by dotted key."""
    found = {f'options.{name}': one for name, one in self.options.items()}
    found |= {'clip': self.clip, 'ratio': self.ratio}
    found |= {f'train.{name}': one for name, one in dict(self.train).items()}
    return {key: one for key, one in found.items() if one is not None}


class Search(MethodSearch):
  """Quasi-random points, as many for every method, in place of grids."""

  points: Annotated[Whole, Field(ge=3)] = 12
  """How many points each method has, baselines too."""
  seed: NonNegativeInt = 0
  """Of the points; they are the same in every method's ranges."""
  learning_rate: Range = Field(default=...)
  """The range of every method that has none of its own."""


def at(method: Any, train: Any, settings: Settings) -> tuple[Any, Any]:
  """A method's table and `[train]` with other values at some dotted keys.

  Raises:
    pydantic.ValidationError: A value that a table refuses.
  """
  of_method, of_train = dict(method), dict(train)
  for key, value in settings:
    table, _, name = key.rpartition('.')
    if table == 'options':
      of_method['options'] = {**of_method['options'], name: value}
    else:
      (of_train if table == 'train' else of_method)[name] = value
  return (type(method)(**of_method), type(train)(**of_train)) if settings else (
      method, train)


def faults(method: Any, train: Any,
           choices: Mapping[str, Choice]) -> Iterator[str]:
  """What the tables refuse of some choices, a line for each."""
  for key, choice in choices.items():
    for value in choice if isinstance(choice, tuple) else (
        choice.low, choice.high):
      try:
        at(method, train, ((key, value),))
      except pydantic.ValidationError as error:
        told = error.errors()[0]['msg']
        yield f'{key} = {value!r}: {told[:1].lower()}{told[1:]}'
