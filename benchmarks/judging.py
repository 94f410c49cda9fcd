"""How often a comparison says "difference", of equals and of others.

    python -m benchmarks judging

Whole comparisons are simulated: a baseline and three rivals, three rates each,
two tuning seeds, fresh seeds, a validation and a test part. An example's latent
score is

    difficulty[e] + luck[method, rate, e] + seed[method, rate, s] + rest

of which `luck` is shared by all seeds: a method suits some examples better, on
every seed alike. Of equals all of it has mean 0 for all methods, so every
"difference" is false. Rates and the rival are nominated on the tuning seeds by
validation score, as the lab does. Then five rules judge:

    before  fresh seeds on the validation part, interval over the seeds
    anew    a split drawn for each fresh seed, Nadeau and Bengio's interval
    one-way fresh seeds on the test part, interval over the seeds
    two-way fresh seeds on the test part, interval over seeds and examples
    lab     the lab's own: the same, and the difference must exceed what an
            unlucky choice of the loser's rate may explain

References:
  Nadeau and Bengio, `Inference for the Generalization Error`, 2003
"""

import argparse
import functools
import math
import types
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import special, stats as scipy_stats

from benchmarks import common
from gradnorm_optax.lab.results import judging, verdict
from gradnorm_optax.lab.results.stats import Interval

METHODS, RATES, TUNE = 4, 3, 2
RULES = ('before', 'anew', 'one-way', 'two-way', 'lab')
HEAD = ('world', 'examples', 'seeds', 'baselines', 'better by', *RULES)
GAIN = 0.15  # of a latent score whose standard deviation is about 1.2


class World(NamedTuple):
  """What makes scores differ: standard deviations, and the score itself."""

  luck: float
  seed: float
  score: Callable[[np.ndarray], np.ndarray] = lambda latent: latent
  slope: float = 0.0  # by how much each rate is worse than the one before


WORLDS = {
    'luck with examples': World(0.5, 0.02),
    'luck with seeds': World(0.0, 0.1),
    'both': World(0.3, 0.05),
    'right or wrong, 86%': World(0.5, 0.05, lambda latent: latent > -1.3),
    'right or wrong, 97%': World(0.5, 0.05, lambda latent: latent > -2.4),
    'heavy tails': World(0.5, 0.05, lambda latent: -np.exp(0.8 * latent)),
    'rates that tuning confuses': World(0.3, 0.05, slope=0.05),
}


class Drawn(NamedTuple):
  """One comparison's scores, last axis: examples.

  Attributes:
    tune: Of the tuning seeds, by method, rate and seed, on validation.
    fresh: Of the fresh seeds, by method, rate and seed, on validation.
    test: Of the fresh seeds at the chosen rate, on the test part.
    anew: The same, each seed on a test part of its own, where asked for.
  """

  tune: np.ndarray
  fresh: np.ndarray
  test: np.ndarray
  anew: np.ndarray | None = None


def draw(rng: np.random.Generator, world: World, examples: int, seeds: int,
         better: float, anew: bool, tune: int = TUNE) -> Drawn:
  """Draws a comparison; the first rival is better by `better`."""
  ahead = np.zeros(METHODS, np.float32)
  ahead[1] = better

  def part(rates: int, runs: np.ndarray, size: int) -> np.ndarray:
    def normal(*shape: int) -> np.ndarray:
      return rng.standard_normal((*shape, size), np.float32)
    return world.score(
        normal() + world.luck * normal(METHODS, rates, 1)
        + (runs + ahead[:, None, None])[..., None] + 0.5 * normal(*runs.shape)
        ).astype(np.float64)

  runs = world.seed * rng.standard_normal(
      (METHODS, RATES, tune + seeds), np.float32) - world.slope * np.arange(
          RATES, dtype=np.float32)[:, None]
  chooses = part(RATES, runs, examples)
  tuned = chooses[:, :, :tune].mean((2, 3))
  chosen = runs[range(METHODS), tuned.argmax(1), tune:][:, None]

  def tested(size: int) -> np.ndarray:
    return part(1, chosen, size)[:, 0]

  found = Drawn(chooses[:, :, :tune], chooses[:, :, tune:], tested(examples))
  if not anew:
    return found
  pool = round(examples / 0.15)
  own = np.array([rng.permutation(pool)[:examples] for _ in range(seeds)])
  return found._replace(
      anew=np.take_along_axis(tested(pool), own[None], -1))


@functools.cache
def resamples(count: int) -> tuple[np.ndarray, float]:
  """How often each value is drawn, in 9999 resamples; percent of a tail."""
  drawn = np.random.default_rng(0).integers(0, count, (9999, count))
  often = (drawn[..., None] == np.arange(count)).sum(1)
  reach = scipy_stats.t.ppf(0.975, count - 1) * math.sqrt(count / (count - 1))
  return often / count, 100 * float(scipy_stats.norm.cdf(-reach))


def bootstrap(values: np.ndarray) -> Interval:
  """The lab's former interval: expanded percentiles over the seeds."""
  count = len(values)
  if np.ptp(values) == 0:
    return Interval(*[float(values.mean())] * 3)
  often, tail = resamples(count)
  low, high = np.percentile(often @ values, [tail, 100 - tail])
  return Interval(float(values.mean()), float(low), float(high))


def corrected(values: np.ndarray) -> Interval:
  """Nadeau and Bengio's, of parts of 15% beside a training part of 70%."""
  count, mean = len(values), float(values.mean())
  reach = float(special.stdtrit(count - 1, 0.975)) * math.sqrt(
      (1 / count + 0.15 / 0.7) * values.var(ddof=1))
  return Interval(mean, mean - reach, mean + reach)


def word(gain: Interval) -> str:
  return 'gain' if gain.low > 0 else 'loss' if gain.high < 0 else 'none'


def grouped(scores: np.ndarray) -> np.ndarray:
  """Means over the lab's groups of examples: a mean's pseudo-values."""
  parts = judging.groups(scores.shape[-1])
  sizes = np.array([len(rows) for rows in parts])
  return np.add.reduceat(scores[..., np.concatenate(parts)], np.concatenate(
      [[0], sizes.cumsum()[:-1]]), axis=-1) / sizes


def judged(drawn: Drawn, baselines: int) -> dict[str, str]:
  """What every rule says; the first methods are the baselines."""
  tuned = drawn.tune.mean((2, 3))
  rate, best = tuned.argmax(1), tuned.max(1)
  fresh = drawn.fresh[range(METHODS), rate].mean(-1)
  tables = grouped(drawn.test)

  def by(values: np.ndarray, interval: Any) -> str:
    """The verdict, with an interval over the seeds alone."""
    return told(lambda row, other: interval(
        values[row.method] - values[other.method]))

  def told(difference: Any, shown: bool = False) -> str:
    rows: Any = [types.SimpleNamespace(
        model='m', method=method, plain=method < baselines, trains=True,
        edge=False, rounds=(), fault=None, tuned=best[method],
        rate=rate[method],
        validation=fresh[method].mean(), sensitivity=[
            types.SimpleNamespace(rate=at, score=score)
            for at, score in enumerate(tuned[method])] if shown else [])
            for method in range(METHODS)]
    return verdict.judge(rows, None, difference).kind

  def both(row: Any, other: Any) -> Interval:
    return judging.of_table(test[row.method] - test[other.method],
                            tables[row.method] - tables[other.method])

  test = drawn.test.mean(-1)
  anew = {} if drawn.anew is None else {
      'anew': by(drawn.anew.mean(-1), corrected)}
  return anew | {
      'before': by(fresh, bootstrap), 'one-way': by(test, bootstrap),
      'two-way': told(both), 'lab': told(both, shown=True)}


def cell(name: str, examples: int, seeds: int, better: float,
         count: int, baselines: int = 1, tune: int = TUNE) -> dict[str, Any]:
  """Percent of gains and of losses under every rule."""
  rng = np.random.default_rng([len(name), examples, seeds])
  anew = examples == 270 and seeds == 5 and not better  # slow to draw
  said = {rule: Counter[str]() for rule in RULES}
  for _ in range(count):
    drawn = draw(rng, WORLDS[name], examples, seeds, better, anew, tune)
    for rule, kind in judged(drawn, baselines).items():
      said[rule][kind] += 1
  return {'world': name, 'examples': examples, 'seeds': seeds,
          'better': better, 'baselines': baselines, 'comparisons': count} | {
              rule: {kind: round(100 * said[rule][kind] / count, 2)
                     for kind in ('gain', 'loss')}
              for rule in RULES if said[rule]}


def shown(found: dict[str, Any]) -> list[Any]:
  return [found['world'], found['examples'], found['seeds'],
          found['baselines'], found['better'], *(
          f'{found[rule]["gain"]:.1f} / {found[rule]["loss"]:.1f}'
          if rule in found else '' for rule in RULES)]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--count', type=int, default=1500)
  options = parser.parse_args()
  asked = [(name, *rest) for rest in (
      (270, 5, 0.0, 1), (270, 5, GAIN, 1), (36, 5, 0.0, 1), (270, 10, 0.0, 1),
      (270, 2, 0.0, 1), (270, 5, 0.0, 2)) for name in WORLDS]
  cells = []
  for name, examples, seeds, better, baselines in asked:
    cells.append(cell(name, examples, seeds, better, options.count, baselines))
    print(*shown(cells[-1]), sep='  ', flush=True)
  print(f'| {" | ".join(HEAD)} |\n|{"---|" * len(HEAD)}')
  for found in cells:
    print(f'| {" | ".join(map(str, shown(found)))} |')
  common.save('judging', {'cells': cells})


if __name__ == '__main__':
  main()
