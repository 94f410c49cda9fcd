"""Statistics against values worked out by hand."""

import io
import math

import numpy as np
import pytest

from gradnorm_optax.lab.reporting import terminal
from gradnorm_optax.lab.results import stats, summary


def test_bootstrap_of_two_values():
  # The mean of two draws from {0, 1} is 0, 1/2 or 1 with chance 1/4, 1/2,
  # 1/4: both 2.5% tails lie within the outer values.
  assert stats.mean_interval([0.0, 1.0]) == (0.5, 0.0, 1.0)


def test_bootstrap_against_all_resamples():
  values = np.array([0.1, 0.5, 0.6, 0.9, 0.7, 0.2])
  grid = np.array(np.meshgrid(*[values] * 6)).reshape(6, -1).mean(0)
  # Student's 2.571 with 5 degrees of freedom x sqrt(6 / 5) is the normal
  # quantile of 99.757%.
  # Of 9999 draws the share below a point of rank p has the deviation
  # sqrt(p (1 - p) / 9999): 0.049% there, of which four are allowed.
  lowest, low, high, highest = np.percentile(
      grid, [0.243 - 0.196, 0.243 + 0.196, 99.757 - 0.196, 99.757 + 0.196])
  found = stats.mean_interval(values)
  assert found.mean == pytest.approx(0.5)
  assert lowest <= found.low <= low and high <= found.high <= highest
  assert stats.mean_interval(values) == found


def test_intervals_of_equals_hold_zero():
  """95% of the time, nearly: plain percentiles of 6 values reach 86%."""
  rng = np.random.default_rng(0)
  found = [stats.mean_interval(rng.normal(size=6), seed) for seed in range(400)]
  held = np.mean([one.low <= 0 <= one.high for one in found])
  assert 0.91 < held < 0.97


def test_single_value_has_no_interval():
  found = stats.mean_interval([0.3])
  assert found.mean == 0.3 and math.isnan(found.low) and math.isnan(found.high)


def test_steps_to_target():
  assert stats.steps_to_target([0.1, 0.3, 0.2], 0.3, 10) == 20
  assert stats.steps_to_target([0.1, 0.29], 0.3, 10) == math.inf


def test_better_than_guessing():
  assert not stats.trains([0.05, 0.13], 0.1, 0.03)
  assert stats.trains([0.05, 0.131], 0.1, 0.03)


def record(seed, curve, diverged=False, test=None):
  return {'seed': seed, 'diverged': diverged, 'seconds': 1.0, 'history': {
      'score': curve, 'loss': [1.0] * len(curve),
      'train_loss': [1.0] * len(curve)}, 'test': test}


def test_a_diverged_run_counts_as_worst():
  run = summary.Run.of(record(1, [0.5, 0.8], diverged=True), 0.4, 10)
  assert run.score == 0 and run.steps_to_target == math.inf
  run = summary.Run.of(
      record(1, [0.2, 0.8], test={'score': 0.7, 'loss': 1.0}), 0.4, 10)
  assert (run.score, run.steps_to_target, run.test_score) == (.8, 20, .7)


def row(**changes):
  nothing = stats.Interval(0.5, 0.4, 0.6)
  return summary.Row(**{
      'model': 'm', 'method': 'a', 'rate': 0.1, 'edge': False, 'trains': True,
      'score': nothing, 'spread': 0.1, 'steps': 100.0, 'reached': 2,
      'seconds': 1.0, 'diverged': 0, 'seeds': 2, 'validation': 0.5,
      'train_loss': 1.0,
      'step_seconds': 0.01, 'bare': None, 'overhead': None, 'sensitivity': (),
      'runs': (), **changes})


def shown(*rows):
  from rich import console
  found = summary.Summary('n', 't', 'd', 0.1, 0.5, 100, 10, 2, 1, rows)
  screen = console.Console(width=120, record=True, file=io.StringIO())
  screen.print(terminal.render(found))
  return screen.export_text()


def test_table_flags():
  text = shown(row(edge=True), row(method='b', trains=False, diverged=1),
               row(method='c', reached=1, overhead=(1.0, 1.25, 1.5)))
  assert '0.1!' in text and 'widen the grid' in text
  line = next(line for line in text.splitlines() if line.startswith('b '))
  assert 'does not train' in line and '1/2' in line
  line = next(line for line in text.splitlines() if line.startswith('c '))
  assert '100 (1/2)' in line and line.endswith(
      '1.25 [1.00, 1.50]')
  assert 'edge' not in shown(row()) and 'guessing.' not in shown(row())
