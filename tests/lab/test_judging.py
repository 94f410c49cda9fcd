"""Intervals over seeds and examples, against a simulation and by hand."""

import math

import numpy as np
import pytest
from scipy import stats

from gradnorm_optax.lab.objective import evidence
from gradnorm_optax.lab.results import judging


def answers(scores, **options):
  """Runs whose examples scored so; shape (seeds, examples)."""
  return judging.Answers(tuple(
      np.stack([row, np.ones_like(row)], 1) for row in scores), evidence.mean,
                         **options)


@pytest.mark.parametrize('table, widest', [
    ([[1.0, 2.0, 6.0], [3.0, 4.0, 9.0]], 'seed'),
    ([[1.0, 2.0, 6.0], [3.0, 4.0, 2.0]], 'example'),
    ([[i + j + (i * j) % 3 / 4 for j in range(5)] for i in range(5)], 'total'),
])
def test_a_table_by_hand(table, widest):
  """Mean squares of a two-way table without replication, term by term."""
  rows, columns = len(table), len(table[0])
  mean = sum(map(sum, table)) / (rows * columns)
  row = [sum(line) / columns for line in table]
  column = [sum(line[j] for line in table) / rows for j in range(columns)]
  seed = columns * sum((m - mean) ** 2 for m in row) / (rows - 1)
  example = rows * sum((m - mean) ** 2 for m in column) / (columns - 1)
  both = (rows - 1) * (columns - 1)
  rest = sum((table[i][j] - row[i] - column[j] + mean) ** 2
             for i in range(rows) for j in range(columns)) / both
  total = seed + example - rest
  freedom = total ** 2 / (seed ** 2 / (rows - 1) + example ** 2 / (columns - 1)
                          + rest ** 2 / both)
  halves = {name: stats.t.ppf(0.975, free) * math.sqrt(square / rows / columns)
            for name, square, free in (
                ('seed', seed, rows - 1), ('example', example, columns - 1),
                ('total', total, freedom))
            if name != 'total' or square > max(seed, example)}
  assert max(halves, key=halves.get) == widest
  assert judging.half_width(np.array(table)) == pytest.approx(halves[widest])


def test_the_interval_is_students():
  """One example: seeds differ alone, and the interval is the usual one."""
  scores = np.array([[0.5], [0.7], [0.4], [0.6]])
  found = judging.interval(answers(scores))
  want = stats.t.interval(0.95, 3, scores.mean(), stats.sem(scores[:, 0]))
  assert found == pytest.approx((scores.mean(), *want))
  one = judging.interval(answers(scores[:1]))
  assert one.mean == 0.5 and math.isnan(one.low) and math.isnan(one.high)
  assert math.isnan(judging.interval(answers([])).mean)


def test_pseudo_values_of_a_mean_are_the_examples():
  scores = np.random.default_rng(0).normal(size=(3, 30))
  table = answers(scores).pseudo_values()
  assert table.shape == (3, 30)
  np.testing.assert_allclose(
      np.sort(table, 1), np.sort(scores, 1), atol=1e-9)
  many = answers(np.tile(scores, 7)).pseudo_values()
  assert many.shape == (3, judging.GROUPS)
  # The weighted mean of unequal groups is that of the examples.
  np.testing.assert_allclose(many.mean(1), scores.mean(1), atol=0.05)


@pytest.mark.parametrize('sizes', [[5] * 8, [9, 1, 3, 3, 7, 2, 4]])
def test_groups_are_left_out_whole(sizes):
  """By brute force: the delete-m jackknife, one run after another."""
  rng = np.random.default_rng(3)
  of = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
  scores = rng.normal(size=(2, len(of))) + rng.normal(size=len(sizes))[of]
  table = answers(scores, groups=tuple(of.tolist())).pseudo_values()
  count = len(sizes)
  for row, found in zip(scores, table, strict=True):
    values = {}
    for group, size in enumerate(sizes):
      ratio = len(of) / size
      values[group] = ratio * row.mean() - (ratio - 1) * row[of != group].mean()
      assert values[group] == pytest.approx(row[of == group].mean())
    mean = sum(values[g] * size for g, size in enumerate(sizes)) / len(of)
    want = sum((values[g] - mean) ** 2 / (len(of) / size - 1)
               for g, size in enumerate(sizes)) / count
    assert ((found - mean) ** 2).sum() / (count - 1) / count == (
        pytest.approx(want))


def test_groups_widen_what_examples_alone_do_not():
  """Of equals that groups tell apart an interval must not be sure."""
  rng = np.random.default_rng(4)
  of = tuple(np.repeat(np.arange(12), 25).tolist())
  missed, narrow = 0, 0
  for _ in range(200):
    luck = rng.normal(size=12)[list(of)] + 0.1 * rng.normal(size=(3, 300))
    found = judging.difference(
        answers(luck, groups=of), answers(np.zeros_like(luck), groups=of))
    alone = judging.difference(answers(luck), answers(np.zeros_like(luck)))
    missed += found.low > 0 or found.high < 0
    narrow += alone.low > 0 or alone.high < 0
  assert missed <= 20 < 100 < narrow


def test_parts_hold_whole_groups():
  of = np.random.default_rng(5).integers(0, 100, 1000)
  parts = judging.groups(1000, of.tolist())
  assert len(parts) == judging.GROUPS
  assert sorted(np.concatenate(parts)) == list(range(1000))
  held = [set(of[part]) for part in parts]
  assert sum(map(len, held)) == len(set(of)) == 100
  assert max(map(len, parts)) < 1.5 * min(map(len, parts))
  one = judging.interval(answers(np.ones((2, 9)), groups=(7,) * 9))
  assert (one.mean, one.high) == (1, 1) and one.low == pytest.approx(0.025)


def test_differences_are_paired_by_seed_and_example():
  rng = np.random.default_rng(1)
  hard, start = rng.normal(size=200), rng.normal(size=(8, 1))
  old = hard + start + 0.01 * rng.normal(size=(8, 200))
  found = judging.difference(answers(old + 0.1), answers(old))
  assert found == pytest.approx((0.1, 0.1, 0.1))
  # Other seeds under the same numbers see nothing of it.
  lost = judging.difference(answers((old + 0.1)[::-1]), answers(old))
  assert lost.high - lost.low > 0.5


def test_a_diverged_run_scores_the_worst_on_every_example():
  found = judging.Answers(
      (None, np.array([[0.5, 1.0], [1.0, 1.0]])), evidence.mean, worst=-1.0)
  np.testing.assert_allclose(found.scores(), [-1.0, 0.75])
  np.testing.assert_allclose(np.sort(found.pseudo_values(), 1),
                             [[-1.0, -1.0], [0.5, 1.0]])
  nothing = judging.Answers((None, None), evidence.mean, worst=0.0)
  assert judging.interval(nothing) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize('shared', [0.0, 0.5])
def test_equals_rarely_differ_and_gains_are_as_rare_as_losses(shared):
  """Also where a method's luck with the examples is the same on all seeds."""
  rng = np.random.default_rng(2)
  count, seeds, examples = 400, 6, 30
  gains = losses = 0
  for _ in range(count):
    one, other = (
        shared * rng.normal(size=examples) + 0.1 * rng.normal(size=(seeds, 1))
        + 0.5 * rng.normal(size=(seeds, examples)) for _ in range(2))
    found = judging.difference(answers(one), answers(other))
    gains += found.low > 0
    losses += found.high < 0
  # 2.5% each; of 400 three standard deviations are 2.3%.
  assert gains / count < 0.05 and losses / count < 0.05
  assert gains + losses > 0


def test_runs_without_a_mistake_have_an_interval():
  """Clopper and Pearson's: of 27 right answers, 1 - 0.025^(1/27) is unknown."""
  found = judging.interval(answers(np.ones((3, 27))))
  assert found == pytest.approx((1.0, 0.025 ** (1 / 27), 1.0))
  assert judging.interval(answers(np.zeros((3, 27)))).high > 0.12
  # Two such methods do not differ, and scores of other kinds keep their zero.
  assert judging.difference(*(answers(np.ones((3, 27))),) * 2) == (0, 0, 0)
  assert judging.interval(answers(np.full((3, 27), 0.5))) == (0.5, 0.5, 0.5)


def test_never_narrower_than_the_seeds_alone():
  """Also of a score that is no mean of the examples."""
  rng = np.random.default_rng(3)
  found = judging.Answers(
      tuple(rng.normal(size=(60, 1)) + seed for seed in range(4)),
      lambda rows: float(np.median(rows) ** 2))
  scores = found.scores()
  low, high = stats.t.interval(0.95, 3, scores.mean(), stats.sem(scores))
  got = judging.interval(found)
  assert got.low <= low + 1e-9 and got.high >= high - 1e-9
