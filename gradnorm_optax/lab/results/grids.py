"""The points of a method: where a grid widens, and which of them go on."""

from collections.abc import Callable
from typing import Any, NamedTuple

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import search_space
from gradnorm_optax.lab.methods.search_space import Point

Grid = tuple[Point, ...]  # of rates alone, unless more is searched


class Counts(NamedTuple):
  """How many trials one method has on one model.

  Attributes:
    whole: On tuning and fresh seeds, over all steps; at least.
    short: Over the first steps alone.
    added: Over all steps, at most, where grids widen.
  """

  whole: int
  short: int
  added: int


def first(config: schema.Config, method: str) -> Grid:
  """What the configuration gives a method to search."""
  if config.compare.search is not None:
    return search_space.points(config, method)
  return tuple(map(Point, config.methods[method].learning_rates
                   or config.compare.learning_rates))


def least(config: schema.Config) -> float:
  """The smallest of the common rates."""
  search = config.compare.search
  return search.learning_rate.low if search else min(
      config.compare.learning_rates)


def early(config: schema.Config) -> int:
  """Evaluations after which hopeless rates stop: a quarter of them, or more.

  >>> base = {'name': 'n', 'models': {'m': {'kind': 'mlp'}},
  ...         'methods': {'a': {'optimizer': 'adam'}}}
  >>> early(schema.Config(**base, train={'steps': 1100, 'eval_every': 100}))
  3
  """
  return -(-(config.train.steps // config.train.eval_every) // 4)


def beginning(config: schema.Config, record: dict[str, Any]) -> dict[str, Any]:
  """A trial as it stood when the hopeless ones stopped."""
  count = early(config)
  history = {name: values[:count]
             for name, values in record['history'].items()}
  return record | {
      'history': history, 'diverged': len(history['loss']) < count}


def share(config: schema.Config) -> float:
  """The share of a run that such a rate is run for."""
  return early(config) * config.train.eval_every / config.train.steps


def counts(config: schema.Config) -> Counts:
  """How many trials a method has; all have as many, but for tied rates."""
  compare, size = config.compare, config.compare.tried
  seeds = compare.tune_seeds
  return Counts((half(size) if compare.halving else size) * seeds
                + compare.seeds, compare.halving * size * seeds,
                compare.extend * seeds)


def half(size: int) -> int:
  """How many of so many rates are the better half."""
  return -(-size // 2)


def at_edge(grid: Grid, best: Point,
            within: schema.Range | None = None) -> bool:
  """Whether a best rate lies on the edge of its grid, or of its range.

  >>> grid = tuple(map(Point, (0.1, 0.01, 1.0)))
  >>> at_edge(grid, Point(0.01)), at_edge(grid, Point(0.1))
  (True, False)

  Of a range the outermost sixths are its edges:

  >>> within = schema.Range(low=0.001, high=1.0)
  >>> [at_edge(grid, Point(rate), within) for rate in (0.003, 0.004, 0.3, 0.4)]
  [True, False, False, True]
  """
  if within is not None:
    place = within.place(best.rate)
    return min(place, 1 - place) <= search_space.EDGE
  rates = {point.rate for point in grid}
  return len(rates) > 1 and best.rate in (min(rates), max(rates))


def edges(config: schema.Config, method: str) -> schema.Range | None:
  """The range of a method's rates, if one is searched."""
  return (None if config.compare.search is None
          else search_space.rates(config, method))


def wider(grid: Grid, best: Point) -> Grid:
  """The grid with one rate more, at the end that the best one is nearer to.

  It follows in the ratio of the last two there. Of equally near ends the upper
  one is taken: methods whose best rate lies inside get a rate like the others,
  so that all of them have tried as many.

  >>> grid = tuple(map(Point, (0.01, 0.1, 0.3)))
  >>> [wider(grid, grid[at])[-1].rate for at in (2, 0)]
  [0.9, 0.001]
  """
  rates = sorted(point.rate for point in grid)
  place = rates.index(best.rate)
  end, beside = (rates[-1], rates[-2]) if 2 * place >= len(rates) - 1 else (
      rates[0], rates[1])
  return (*grid, Point(float(f'{end * end / beside:.3g}')))


def better_half(grid: Grid, score: Callable[[Point], float],
                merit: Callable[[Point], Any], lost: Callable[[Point], bool],
                trains: Callable[[Point], bool]) -> Grid:
  """The points that go on: the better half, and whatever ties with its last.

  Of those that tie where guessing is, the order decides; it knows their losses.
  A point of which every run has diverged goes on only where all have, and then
  it is one alone.

  Args:
    grid: The points.
    score: What each scored after the first steps.
    merit: What orders them, equal scores too.
    lost: Whether every run at a point has diverged.
    trains: Whether a point is better than guessing by then.

  >>> scores = dict(zip(map(Point, (1, 2, 3, 4)), (.5, .9, .9, .9)))
  >>> for trains in (True, False):
  ...   kept = better_half(tuple(scores), scores.get, lambda point: point,
  ...                      lambda point: False, lambda point: trains)
  ...   print([point.rate for point in kept])
  [2, 3, 4]
  [3, 4]
  """
  ranked = sorted(grid, key=merit, reverse=True)
  better = ranked[:half(len(grid))]
  bound = score(better[-1])
  kept = tuple(point for point in grid if not lost(point) and (
      point in better or trains(point) and score(point) >= bound))
  return kept or (ranked[0],)
