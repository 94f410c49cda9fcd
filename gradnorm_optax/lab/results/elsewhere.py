"""What to know of trials that a cluster ran, or could not run."""

from collections.abc import Iterator

from gradnorm_optax.lab.methods.search_space import Point
from gradnorm_optax.lab.results import step_cost
from gradnorm_optax.lab.results.trials import Pair, Trials


def notes(trials: Trials) -> tuple[str, ...]:
  """Trials that were left out with the reason; machines that timed steps."""
  return *_left_out(trials), *_timed(trials)


def _left_out(trials: Trials) -> Iterator[str]:
  """Those of this comparison: a folder may hold others."""
  pairs = trials.pairs()
  for record in trials.records.values():
    if not record.get('reason'):
      continue
    pair, point = Pair(record['model'], record['method']), Point.of(record)
    if pair in pairs and record['fingerprint'] == trials.key(
        record['phase'], pair, point, record['seed']):
      yield (f'{pair.method} on {pair.model}, rate {point}, seed '
             f'{record["seed"]}: counts as diverged, {record["reason"]} (out '
             'of memory? the workers\' logs say more; --fresh tries again).')


def _timed(trials: Trials) -> Iterator[str]:
  for model in trials.config.models:
    machine = trials.records.get(
        step_cost.key(trials, model), {}).get('machine')
    if machine:
      yield f'{model}: steps were timed on {machine}.'
