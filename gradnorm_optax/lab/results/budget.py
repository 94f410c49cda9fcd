"""How many rates and seeds a time holds, and what differences they can show."""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.results import grids, judging


class Numbers(NamedTuple):
  """What a comparison makes for every method: rates, or points of a search, x
  tuning seeds, and fresh seeds."""

  rates: int
  tune_seeds: int
  seeds: int

  def __str__(self) -> str:
    return (f'{_count(self.rates, "rate")} x '
            f'{_count(self.tune_seeds, "seed")}, '
            f'{_count(self.seeds, "fresh seed")}')


# What is enough to be given up last, and what can decide at all: a rate inside
# the grid, and an interval that is not wider than most differences
# (`python -m benchmarks judging_few`).
ENOUGH, LEAST = Numbers(5, 2, 5), Numbers(3, 1, 3)


class Costs(NamedTuple):
  """What is known of a comparison's time before its trials.

  Attributes:
    calls: Seconds of a call of each method on each model.
    workers: How many calls go on side by side.
    together: How many trials share a call.
    rest: Seconds of all that is no trial: looks, timing, report.
  """

  calls: tuple[float, ...]
  workers: int
  together: int
  rest: float

  def trials(self, count: float) -> float:
    """Seconds of so many trials of every method."""
    # One call may be longer than all others: nothing goes on beside its end.
    calls = math.ceil(round(count, 6) / self.together) if (
        self.together > 1) else count
    return calls * sum(self.calls) / self.workers


def asked(config: schema.Config) -> Numbers:
  """What the configuration asks for."""
  return Numbers(config.compare.tried, config.compare.tune_seeds,
                 config.compare.seeds)


def seconds(config: schema.Config, costs: Costs, numbers: Numbers) -> float:
  """How long a comparison takes with other numbers; at most, if grids widen."""
  found = grids.counts(restricted(config, numbers))
  return costs.rest + costs.trials(
      found.whole - numbers.seeds + found.added
      + found.short * grids.share(config)) + costs.trials(numbers.seeds)


def choose(config: schema.Config, costs: Costs, limit: float) -> Numbers | None:
  """The most that a time holds, never more than the configuration asks for.

  Given up are, in this order and one by one: fresh seeds down to 5, tuning
  seeds down to 2, rates down to 5; then fresh seeds down to 3, the second
  tuning seed, rates down to 3. Of what is left of the time, fresh seeds are
  added again.

  Args:
    config: What is asked for.
    costs: What it costs.
    limit: Seconds.

  Returns:
    None where even the least does not fit.
  """
  def fits(numbers: Numbers) -> bool:
    return seconds(config, costs, numbers) <= limit

  most = asked(config)
  found = next(filter(fits, fewer(most)), None)
  while found is not None and found.seeds < most.seeds:
    more = found._replace(seeds=found.seeds + 1)
    if not fits(more):
      break
    found = more
  return found


def fewer(most: Numbers) -> Iterator[Numbers]:
  """What may be made, the most first.

  >>> list(map(tuple, fewer(Numbers(4, 2, 4))))
  [(4, 2, 4), (4, 2, 3), (4, 1, 3), (3, 1, 3)]
  """
  yield most
  now = most._asdict()
  for goal in (ENOUGH, LEAST):
    for name in ('seeds', 'tune_seeds', 'rates'):
      while now[name] > getattr(goal, name):
        now[name] -= 1
        yield Numbers(**now)


def least(config: schema.Config) -> Numbers:
  """The fewest that can still decide."""
  return Numbers(*map(min, asked(config), LEAST))


def restricted(config: schema.Config, numbers: Numbers) -> schema.Config:
  """The same comparison with so many rates and seeds.

  All grids are thinned alike, and keep both ends; of a search the first
  points are left.
  """
  if config.compare.search is not None:
    return config.model_copy(update={'compare': config.compare.model_copy(
        update={
            'search': config.compare.search.model_copy(
                update={'points': numbers.rates}),
            'tune_seeds': numbers.tune_seeds, 'seeds': numbers.seeds})})
  compare = config.compare.model_copy(update={
      'learning_rates': thinned(config.compare.learning_rates, numbers.rates),
      'tune_seeds': numbers.tune_seeds, 'seeds': numbers.seeds})
  methods = {
      name: method if method.learning_rates is None else method.model_copy(
          update={'learning_rates': thinned(
              method.learning_rates, numbers.rates)})
      for name, method in config.methods.items()}
  return config.model_copy(update={'compare': compare, 'methods': methods})


def thinned(grid: Sequence[float], count: int) -> tuple[float, ...]:
  """So many rates of a grid, spread evenly, in their order.

  >>> thinned((1., 2., 3., 4., 5.), 3), thinned((5., 1., 3., 4., 2.), 4)
  ((1.0, 3.0, 5.0), (5.0, 1.0, 4.0, 2.0))
  """
  rates = sorted(grid)
  places = [round(at * (len(rates) - 1) / max(1, count - 1))
            for at in range(count)]
  kept = {rates[place] for place in places}
  return tuple(rate for rate in grid if rate in kept)


def visible(seeds: int) -> float:
  """The least difference that can be seen, in spreads of the scores over seeds.

  Half of Student's interval of a difference of two methods whose scores vary
  with the seed by one each, and not together.

  >>> [round(visible(seeds), 1) for seeds in (2, 3, 5, 10)]
  [12.7, 3.5, 1.8, 1.0]
  """
  from scipy import special
  if seeds < 2:
    return math.inf
  return float(special.stdtrit(seeds - 1.0, 0.975)) * math.sqrt(2 / seeds)


def visible_examples(examples: int) -> int:
  """On how many test examples methods must differ, with any number of seeds.

  Where one method answers k more of them rightly on every seed, each in another
  of G groups, Student's interval over the groups leaves out zero if
  k > G t^2 / (G - 1 + t^2), with t its quantile.

  >>> visible_examples(270)
  4
  """
  from scipy import special
  count = max(2, min(examples, judging.GROUPS))
  square = float(special.stdtrit(count - 1.0, 0.975)) ** 2
  return math.floor(count * square / (count - 1 + square)) + 1


def told(minutes: float, numbers: Numbers, most: Numbers, expected: float,
         examples: int | None) -> str:
  """What is going to be done, and what it cannot show, as one line.

  Args:
    minutes: The budget.
    numbers: What fits.
    most: What the configuration asks for.
    expected: Seconds.
    examples: How many judged examples are right or wrong; None where a score is
      no share of them.
  """
  cut = '' if numbers == most else f' instead of {most}'
  if numbers.seeds < 2:
    blind = 'no difference can be seen with one fresh seed'
  else:
    share = '' if examples is None else (
        f'{100 * visible_examples(examples) / examples:.1f} points '
        f'({visible_examples(examples)} of {examples} test examples) or ')
    blind = (f'a difference below {share}{visible(numbers.seeds):.1f} times '
             'the scores\' spread over seeds cannot be seen')
  return (f'{minutes:g} min: {numbers}{cut}, about {expected / 60:.2g} min; '
          f'{blind}')


def _count(number: int, what: str) -> str:
  """
  >>> _count(1, 'seed'), _count(2, 'seed')
  ('1 seed', '2 seeds')
  """
  return f'{number} {what}{"s" * (number != 1)}'
