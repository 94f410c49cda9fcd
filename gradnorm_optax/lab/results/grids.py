"""The rates of a method's grid: where it widens, and which of them go on."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from gradnorm_optax.lab import schema

Grid = tuple[float, ...]


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
  """The grid that the configuration gives a method."""
  return config.methods[method].learning_rates or config.compare.learning_rates


def early(config: schema.Config) -> int:
  """Evaluations after which hopeless rates stop: a quarter of them, or more.

  >>> base = {'name': 'n', 'models': {'m': {'kind': 'mlp'}},
  ...         'methods': {'a': {'optimizer': 'adam'}}}
  >>> early(schema.Config(**base, train={'steps': 1100, 'eval_every': 100}))
  3
  """
  return -(-(config.train.steps // config.train.eval_every) // 4)


def share(config: schema.Config) -> float:
  """The share of a run that such a rate is run for."""
  return early(config) * config.train.eval_every / config.train.steps


def counts(config: schema.Config) -> Counts:
  """How many trials a method has; all have as many, but for tied rates."""
  compare, size = config.compare, len(config.compare.learning_rates)
  seeds = compare.tune_seeds
  return Counts((half(size) if compare.halving else size) * seeds
                + compare.seeds, compare.halving * size * seeds,
                compare.extend * seeds)


def half(size: int) -> int:
  """How many of so many rates are the better half."""
  return -(-size // 2)


def at_edge(grid: Sequence[float], best: float) -> bool:
  """Whether a best rate lies on the edge of its grid.

  >>> at_edge((0.1, 0.01, 1.0), 0.01), at_edge((0.1, 0.01, 1.0), 0.1)
  (True, False)
  """
  return len(grid) > 1 and best in (min(grid), max(grid))


def wider(grid: Grid, best: float) -> Grid:
  """The grid with one rate more, at the end that the best one is nearer to.

  It follows in the ratio of the last two there. Of equally near ends the upper
  one is taken: methods whose best rate lies inside get a rate like the others,
  so that all of them have tried as many.

  >>> wider((0.01, 0.1, 0.3), 0.3), wider((0.01, 0.1, 0.3), 0.01)
  ((0.01, 0.1, 0.3, 0.9), (0.01, 0.1, 0.3, 0.001))
  """
  rates = sorted(grid)
  place = rates.index(best)
  end, beside = (rates[-1], rates[-2]) if 2 * place >= len(rates) - 1 else (
      rates[0], rates[1])
  return (*grid, float(f'{end * end / beside:.3g}'))


def better_half(grid: Grid, score: Callable[[float], float],
                merit: Callable[[float], Any], lost: Callable[[float], bool],
                trains: Callable[[float], bool]) -> Grid:
  """The rates that go on: the better half, and whatever ties with its last.

  Of rates that tie where guessing is, the order decides; it knows their losses.
  A rate of which every run has diverged goes on only where all have, and then
  it is one alone.

  Args:
    grid: The rates.
    score: What each scored after the first steps.
    merit: What orders them, equal scores too.
    lost: Whether every run at a rate has diverged.
    trains: Whether a rate is better than guessing by then.

  >>> scores = {1.: .5, 2.: .9, 3.: .9, 4.: .9}.get
  >>> for trains in (True, False):
  ...   print(better_half((1., 2., 3., 4.), scores, lambda rate: rate,
  ...                     lambda rate: False, lambda rate: trains))
  (2.0, 3.0, 4.0)
  (3.0, 4.0)
  """
  ranked = sorted(grid, key=merit, reverse=True)
  better = ranked[:half(len(grid))]
  least = score(better[-1])
  kept = tuple(rate for rate in grid if not lost(rate) and (
      rate in better or trains(rate) and score(rate) >= least))
  return kept or (ranked[0],)
