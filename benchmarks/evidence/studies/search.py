"""An equal search for every arm, then fresh seeds at the rate that was best."""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from benchmarks.evidence.studies.book import Book

# (arm, phase, rates, seeds) -> one (value, extra) for each pair
Run = Callable[[str, str, np.ndarray, np.ndarray],
               list[tuple[float, dict[str, Any]]]]
FRESH = 1000


class Plan(NamedTuple):
  """A search that is the same for every arm.

  Attributes:
    arms: Names.
    rates: The grid, ascending, a constant factor apart.
    tune_seeds: How many seeds choose the rate: 0, 1, ..
    seeds: How many fresh ones judge it: 1000, 1001, ..
    widen: How often the grid may grow by a point at either end, for all arms,
      where the best point of one stands there.
    group: Trials that run in one call.
  """

  arms: tuple[str, ...]
  rates: tuple[float, ...]
  tune_seeds: int = 2
  seeds: int = 10
  widen: int = 4
  group: int = 12

  def settings(self) -> dict[str, Any]:
    """What the file says about the search."""
    return {'arms': list(self.arms), 'rates': list(self.rates),
            'tune_seeds': self.tune_seeds, 'seeds': self.seeds,
            'widen': self.widen}


def search(
    book: Book, plan: Plan, run: Run,
    judged: Callable[[dict[str, float]], Sequence[str]] = list,
) -> dict[str, float]:
  """Tunes every arm, and judges them, or those that `judged` picks of the best.

  Returns:
    The rates that were chosen.
  """
  rates = list(plan.rates)
  for turn in range(plan.widen + 1):
    for arm in plan.arms:
      _fill(book, plan, run, 'tune', arm, rates, range(plan.tune_seeds))
    best = {arm: _best(book, arm, rates) for arm in plan.arms}
    low, high = rates[0] in best.values(), rates[-1] in best.values()
    if turn == plan.widen or not (low or high):
      break
    factor = rates[-1] / rates[-2]
    rates = ([rates[0] / factor] * low + rates + [rates[-1] * factor] * high)
  for arm in judged(best):
    rate = best[arm]
    _fill(book, plan, run, 'final', arm, [rate],
          range(FRESH, FRESH + plan.seeds))
    final = [v for v in book.values('final', arm, rate) if v is not None]
    print(f'{book.head["study"]}: {arm}: rate {rate:.3g}'
          f'{" (edge)" if rate in (rates[0], rates[-1]) else ""}, mean'
          f' {np.mean(final) if final else math.nan:.4g} of {len(final)}',
          flush=True)
  book.finish()
  return best


def _fill(book: Book, plan: Plan, run: Run, phase: str, arm: str,
          rates: Sequence[float], seeds: Sequence[int]) -> None:
  """Runs what is missing, a group at a time, of always the same size."""
  missing = [(rate, seed) for rate in rates for seed in seeds
             if book.find(phase, arm, rate, seed) is None]
  while missing:
    now, missing = missing[:plan.group], missing[plan.group:]
    padded = now + now[-1:] * (plan.group - len(now))
    found = run(arm, phase, np.array([rate for rate, _ in padded]),
                np.array([seed for _, seed in padded]))
    book.add({'arm': arm, 'rate': rate, 'phase': phase, 'seed': seed,
              'value': value, 'extra': extra}
             for (rate, seed), (value, extra) in zip(now, found, strict=False))


def _best(book: Book, arm: str, rates: Sequence[float]) -> float:
  """The rate of the best mean; a diverged run is worse than any."""
  return rates[int(np.argmax([merit(book, arm, rate) for rate in rates]))]


def merit(book: Book, arm: str, rate: float) -> float:
  """The mean over the tuning seeds, the larger the better; or -inf."""
  values = book.values('tune', arm, rate)
  known = [v for v in values if v is not None]
  if len(known) < len(values):
    return -math.inf
  return float(np.mean(known)) * (1 if book.head['higher'] else -1)
