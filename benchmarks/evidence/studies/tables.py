"""The tables of docs/studies.md, from what the studies kept."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from gradnorm_optax.lab.results import judging
from gradnorm_optax.lab.results.stats import Interval

Kept = dict[str, Any]
PAPER = 0.1, 0.2  # what SGR's paper gains, of all sequences


def finals(kept: Kept, arm: str) -> list[dict[str, Any]]:
  """The trials on fresh seeds, in order of the seeds."""
  return sorted((t for t in kept['trials'] if t['phase'] == 'final'
                 and t['arm'] == arm), key=lambda t: t['seed'])


def values(kept: Kept, arm: str) -> np.ndarray:
  """Their values; of a run that diverged the worst value of any arm."""
  known = [t['value'] for t in kept['trials']
           if t['phase'] == 'final' and t['value'] is not None]
  worst = min(known) if kept['higher'] else max(known)
  return np.array([worst if t['value'] is None else t['value']
                   for t in finals(kept, arm)], float)


def interval(found: np.ndarray) -> Interval:
  """The mean and Student's 95% interval over the seeds."""
  return judging.of_table(found, found[:, None])


def gain(kept: Kept, arm: str, other: str) -> Interval:
  """How much better an arm is, seed by seed; larger is better."""
  sign = 1 if kept['higher'] else -1
  return interval(sign * (values(kept, arm) - values(kept, other)))


def word(found: Interval) -> str:
  """What an interval of a gain says."""
  if found.low > 0:
    return 'better'
  return 'worse' if found.high < 0 else 'no difference shown'


def arms(kept: Kept) -> list[str]:
  """The arms that were judged."""
  return list(dict.fromkeys(
      t['arm'] for t in kept['trials'] if t['phase'] == 'final'))


def reference(kept: Kept, arm: str) -> str | None:
  """What an arm is held against; None for that itself."""
  net = arm.split('/')[0]
  plain = {'dqn': 'plain', 'vae': f'{net}/plain', 'path_refresh': 'every_1',
           'bng_equal_loss': f'{net}/{arm.split("_")[-1].split("/")[-1]}',
           }.get(kept['study'], 'random')
  return None if plain == arm else plain


def searched(kept: Kept) -> str:
  """A line on the search, the seeds and the time."""
  rates = sorted({t['rate'] for t in kept['trials'] if t['phase'] == 'tune'})
  settings = kept['settings']
  better = 'larger' if kept['higher'] else 'smaller'
  return (f'Measure: {kept["measure"]} ({better}'
          f' is better). Every arm searched {len(rates)} rates from '
          f'{rates[0]:.2g} to {rates[-1]:.2g} on {settings["tune_seeds"]} seeds'
          f', and was judged on {settings["seeds"]} fresh ones. '
          f'{_minutes(kept)}')


def _minutes(kept: Kept) -> str:
  return (f'It took {math.ceil(kept["seconds"] / 60)} minutes on '
          f'{kept["machine"]["cores"]} cores beside other work.')


def judged(kept: Kept) -> str:
  """Arms, the rates that tuning chose, means, and gains over a reference."""
  rates = sorted({t['rate'] for t in kept['trials'] if t['phase'] == 'tune'})
  lines = ['| arm | rate | mean [95%] | better than its reference by [95%] | |'
           ' without a value |', '|---|---|---|---|---|---|']
  for arm in arms(kept):
    trials, other = finals(kept, arm), reference(kept, arm)
    rate = trials[0]['rate']
    edge = ' (edge)' if any(
        math.isclose(rate, end) for end in (rates[0], rates[-1])) else ''
    cells = [arm, f'{rate:.2g}{edge}', told(interval(values(kept, arm)))]
    if other is None:
      cells += ['-', '']
    else:
      found = gain(kept, arm, other)
      cells += [f'{told(found, "+")} ({other})', word(found)]
    cells.append(f'{sum(t["value"] is None for t in trials)} of {len(trials)}')
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


def told(found: Interval, sign: str = '') -> str:
  """Mean and bounds, with four figures."""
  return (f'{found.mean:{sign}.4g} [{found.low:{sign}.4g}, '
          f'{found.high:{sign}.4g}]')


def extras(kept: Kept, names: Iterable[str]) -> str:
  """Means of further figures of the judged runs."""
  names = list(names)
  lines = ['| arm | ' + ' | '.join(names) + ' |', '|---|' + '---|' * len(names)]
  for arm in arms(kept):
    row = []
    for name in names:
      known = [t['extra'][name] for t in finals(kept, arm)
               if t['extra'].get(name) is not None]
      row.append(f'{np.mean(known):.4g}' if known else '-')
    lines.append(f'| {arm} | ' + ' | '.join(row) + ' |')
  return '\n'.join(lines)


def learned(kept: Kept) -> str:
  """How many starts were learned from, and whether the paper's gain shows."""
  chance, count = guess(kept), kept['settings']['held_out']
  least = chance + 3 * math.sqrt(chance * (1 - chance) / count)
  lines = []
  for arm in arms(kept):
    found = values(kept, arm)
    lines.append(f'{arm}: {int((found > least).sum())} of {len(found)} starts')
  best = max((arm for arm in arms(kept) if arm != 'random'),
             key=lambda arm: gain(kept, arm, 'random').mean)
  gained = gain(kept, best, 'random')
  reached = ('is reached' if gained.low >= PAPER[0] else 'is not reached'
             if gained.high < PAPER[0] else 'is neither reached nor excluded')
  return (f'Learned (better than guessing, {least:.1%}, by three standard '
          f'errors): {"; ".join(lines)}. The gain of {PAPER[0]:.0%} to '
          f'{PAPER[1]:.0%} that the paper reports {reached} here: {best} gains '
          f'{100 * gained.mean:+.1f} points [{100 * gained.low:+.1f}, '
          f'{100 * gained.high:+.1f}].')


def guess(kept: Kept) -> float:
  """What the best constant answer gets right, in the limit."""
  return {'temporal_order': 0.25, 'multiplication': 0.766}[
      kept['settings']['task']]


def thresholds(kept: Kept) -> str:
  """At which lr sqrt(D) starts leave in one step, by method and D."""
  lines = ['| method | D | no start leaves up to | all leave from | all end '
           'outside from |', '|---|---|---|---|---|']
  for arm in arms(kept):
    method, blocks = arm.split('/')
    once: dict[float, list[float]] = {}
    later: dict[float, list[float]] = {}
    for trial in finals(kept, arm):
      once.setdefault(trial['extra']['reach'], []).append(trial['value'])
      later.setdefault(trial['extra']['reach'], []).append(
          trial['extra']['later'])
    cells = [method, blocks,
             _bound(once, lambda v: max(v) == 0, last=True),
             _bound(once, lambda v: min(v) == 1),
             _bound(later, lambda v: min(v) == 1)]
    lines.append('| ' + ' | '.join(cells) + ' |')
  return '\n'.join(lines)


def _bound(shares: dict[float, list[float]], holds: Any,
           last: bool = False) -> str:
  """From (up to, if `last`) which value on a condition always holds."""
  order = sorted(shares, reverse=not last)
  found = None
  for reach in order:
    if not holds(shares[reach]):
      break
    found = reach
  return '-' if found is None else f'{found:g}'


def folding(kept: Kept) -> str:
  """Operations and bytes of a forward pass against the plain net's."""
  lines = ['| net | batch | operations, wrapped | folded | bytes, wrapped | '
           'folded | largest difference of outputs |',
           '|---|---|---|---|---|---|---|']
  for net in kept['settings']['nets']:
    for batch in kept['settings']['batches']:
      rows = [[t for t in finals(kept, f'{net}/{arm}')
               if t['extra']['batch'] == batch]
              for arm in ('wrapped', 'folded')]
      apart = max(t['extra']['apart'] for t in rows[1])
      lines.append(
          f'| {net} | {batch} | '
          + ' | '.join(f'{row[0]["value"]:.4f}' for row in rows) + ' | '
          + ' | '.join(f'{row[0]["extra"]["bytes"]:.4f}' for row in rows)
          + f' | {apart:.1e} |')
  return '\n'.join(lines)
