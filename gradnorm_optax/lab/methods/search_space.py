"""What a comparison searches of each method, and the points of that."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods.registry import OPTIMIZERS
from gradnorm_optax.lab.schema import search
from gradnorm_optax.lab.schema.search import Choice

EDGE = 1 / 6  # of a range, on its log scale: a best rate there is at the edge


class Point(NamedTuple):
  """What a trial is run at.

  Attributes:
    rate: The learning rate.
    settings: Values of what else is searched, by dotted key.
  """

  rate: float
  settings: schema.Settings = ()

  @staticmethod
  def of(record: Mapping[str, Any]) -> 'Point':
    """That of a record of the run folder."""
    return Point(record['rate'], tuple(record.get('settings', {}).items()))

  def record(self) -> dict[str, Any]:
    """What a record says of it; a rate alone is kept as ever."""
    return {'rate': self.rate} | (
        {'settings': dict(self.settings)} if self.settings else {})

  def __str__(self) -> str:
    """
    >>> str(Point(0.1, (('options.weight_decay', 0.01),)))
    '0.1 (options.weight_decay = 0.01)'
    """
    return f'{self.rate:g}' + (
        f' ({told(self.settings)})' if self.settings else '')


def told(settings: schema.Settings) -> str:
  """Settings in words."""
  return ', '.join(f'{key} = {shown(value)}' for key, value in settings)


def shown(value: Any) -> str:
  """A value as a report shows it."""
  return f'{value:g}' if isinstance(value, float) else str(value)


def rates(config: schema.Config, method: str) -> schema.Range:
  """The range of a method's learning rates."""
  assert config.compare.search is not None, 'grids are searched'
  own = config.methods[method].search
  return (own and own.learning_rate) or config.compare.search.learning_rate


def unknown(config: schema.Config, method: str) -> list[str]:
  """What is searched of other methods, and this one does not have."""
  return [key for key in config.choices(method)
          if not _knows(config.methods[method], key)]


def points(config: schema.Config, method: str) -> tuple[Point, ...]:
  """The points of a method, quasi-random, rates from small to large.

  All methods share one scrambled Halton sequence, a dimension for each key, so
  that what two of them have in common is searched alike. Fewer points are its
  beginning.
  """
  from scipy.stats import qmc
  asked = config.compare.search
  assert asked is not None, 'grids are searched'
  keys = list(dict.fromkeys(
      key for name in config.methods for key in config.choices(name)))
  cube = qmc.Halton(1 + len(keys), rng=asked.seed).random(asked.points)
  choices = {key: choice for key, choice in config.choices(method).items()
             if _knows(config.methods[method], key)}
  within = rates(config, method)
  found = [Point(within.at(float(place[0])), tuple(
      (key, _at(choice, float(place[1 + keys.index(key)])))
      for key, choice in choices.items())) for place in cube]
  return tuple(sorted(found, key=lambda point: point.rate))


def at(config: schema.Config, method: str, point: Point
       ) -> tuple[schema.Method, schema.Train]:
  """The method's table and `[train]` at a point."""
  found: tuple[schema.Method, schema.Train] = search.at(
      config.methods[method], config.train, point.settings)
  return found


def _at(choice: Choice, place: float) -> Any:
  """The value at a place between 0 and 1; a list has equal shares of it."""
  if isinstance(choice, schema.Range):
    return choice.at(place)
  return choice[int(place * len(choice))]


def _knows(method: schema.Method, key: str) -> bool:
  """Whether a method has what a key names."""
  table, _, name = key.rpartition('.')
  if table == 'options':
    if method.search is not None and name in method.search.options:
      return True
    row = OPTIMIZERS.get(method.optimizer)
    # Of the user's own optimizer its own table must say it: a report is made
    # where his code may not be.
    return row is not None and any(
        name in _named(make) for make in (row.make, *row.passes))
  return name != 'ratio' or 'bng' in method.normalize


def _named(make: Callable[..., Any]) -> list[str]:
  """The arguments that a function names."""
  return [one.name for one in inspect.signature(make).parameters.values()
          if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
