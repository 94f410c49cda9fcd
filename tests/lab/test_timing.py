"""A step's time is marginal: what a call costs beside its steps stays out."""

import io
import json

import jax
import numpy as np
import pytest
from rich import console

from gradnorm_optax import lab
from gradnorm_optax.lab.comparison import forward_timing, timing
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.results import step_cost, time_ratio
from gradnorm_optax.lab.training import make_problem
from gradnorm_optax.lab.training.forward import forward


class Machine:
  """A clock that calls of programs turn on; the noise is the caller's."""

  def __init__(self, seed=0):
    self.at, self.steps = 0.0, 0
    self._random = np.random.default_rng(seed)

  def now(self):
    return self.at

  def program(self, call, step, order=0.0, epoch=1, spikes=0.0):
    """Seconds of a call, of a step, and of an epoch's first step beside it."""
    def run(count):
      self.steps += count
      spent = call + count * step + -(-count // epoch) * order
      spent *= self._random.uniform(1.0, 1.02)
      if self._random.random() < spikes:
        spent += self._random.exponential(0.02)
      self.at += spent
      return spent
    return run


@pytest.mark.parametrize('step', [2e-6, 2.6e-5, 1e-3, 0.4])
def test_overhead_of_a_call_does_not_enter(step):
  machine = Machine()
  calls = {'bare': machine.program(call=1e-3, step=step, spikes=0.1),
           'slow': machine.program(call=3e-3, step=2 * step, spikes=0.1)}
  found = time_ratio.level(timing.rounds(
      calls, 40, 15, np.inf, now=machine.now))
  assert len(found['bare']) == len(found['slow']) == 15
  assert np.median(found['bare']) == pytest.approx(step, rel=0.1)
  ratio, low, high = time_ratio.ratio(found['slow'], found['bare'])
  assert ratio == pytest.approx(2, rel=0.1) and low <= 2.1 and high >= 1.9
  # Seconds at most, however long a step is.
  assert machine.at < 15 * 2 * 12 * max(timing.LONG, 2 * step)


def test_no_step_is_free_however_busy_the_machine_is():
  machine = Machine(seed=2)
  found = timing.rounds(
      {name: machine.program(call=1e-4, step=3e-5, spikes=0.6)
       for name in 'ab'}, 40, 3, 0.0, now=machine.now)
  assert min(map(min, found.values())) > 0
  low = time_ratio.ratio(found['a'], found['b']).low
  assert 0 < low < np.inf


def test_a_process_that_stood_still_for_a_while_is_no_long_call():
  machine = Machine()
  program, asked = machine.program(call=1e-3, step=2e-5), []

  def call(count):
    asked.append(count)
    # Three calls of one step come first; the next one stands for a minute.
    return program(count) + (60.0 if len(asked) == 4 else 0.0)

  found = timing.rounds({'a': call}, 40, 5, np.inf, now=machine.now)
  assert asked[3] > 1
  assert np.median(found['a']) == pytest.approx(2e-5, rel=0.1)


def test_an_epochs_order_counts_by_its_share():
  machine = Machine()
  call = machine.program(call=1e-4, step=1e-4, order=4e-4, epoch=8)
  found = timing.rounds({'a': call}, 8, 9, np.inf, now=machine.now)
  assert np.median(found['a']) == pytest.approx(1.5e-4, rel=0.05)


def test_no_more_time_than_is_allowed_but_three_rounds():
  def made(allowed):
    machine = Machine()
    found = timing.rounds(
        {'a': machine.program(1e-4, 1e-2), 'b': machine.program(1e-4, 1e-2)},
        40, 100, allowed, now=machine.now)
    return len(found['a']), machine.at
  count, spent = made(allowed=2.0)
  assert 3 < count < 100 and 1.8 < spent <= 2.0
  assert made(allowed=0.0)[0] == 3


def test_one_figure_for_a_pair_whatever_slows_the_machine():
  """Rounds slowed by half or tenfold; the ratios of any two agree."""
  random = np.random.default_rng(0)
  slow = random.choice([1.0, 1.5, 10.0], 15)
  times = {name: (cost * slow * random.lognormal(0, 0.02, 15)).tolist()
           for name, cost in (('a', 1.0), ('b', 1.2), ('c', 3.0))}
  found = time_ratio.level(times)
  medians = {name: np.median(rounds) for name, rounds in found.items()}
  for one, other, want in (('b', 'a', 1.2), ('c', 'b', 2.5), ('c', 'a', 3.0)):
    ratio, low, high = time_ratio.ratio(found[one], found[other])
    assert ratio == pytest.approx(medians[one] / medians[other])
    assert low <= ratio <= high and ratio == pytest.approx(want, rel=0.04)
    assert high / low < 1.1


def test_the_interval_holds_the_truth_as_often_as_it_says():
  """Lognormal noise and spikes, three programs, few rounds and many."""
  random = np.random.default_rng(1)
  for count, least in ((3, 0.7), (15, 0.9)):
    hits = 0
    for _ in range(200):
      noise = random.lognormal(0, 0.05, (3, count)) * np.where(
          random.random((3, count)) < 0.1, 3.0, 1.0)
      found = time_ratio.level(dict(zip('abc', (
          np.array([1.0, 1.3, 2.0])[:, None] * noise).tolist(), strict=True)))
      _, low, high = time_ratio.ratio(found['b'], found['a'])
      hits += low <= 1.3 <= high
    assert hits >= least * 200


def test_a_comparison_tells_what_answers_cost(finished):
  """Of 1257 training examples 39 batches of 32; 16 units on 64 inputs."""
  done = finished[1]
  weights = 4 * (64 * 16 + 16 + 16 * 10 + 10)
  for row in done.summary.rows:
    assert [one.batch for one in row.forward] == [1, 270]
    for one in row.forward:
      assert 0 < one.seconds < 1
      # Weights, examples and outputs at least, and not much more.
      least = weights + 4 * one.batch * (64 + 10)
      assert least <= one.bytes <= 2 * least
    assert row.epochs == row.steps / 39
    assert row.whole_seconds == pytest.approx(20 * row.step_seconds)
  kept = json.loads((done.folder / 'results.json').read_text())
  assert kept['summary']['rows'][0]['forward'][0]['batch'] == 1
  screen = console.Console(width=200, file=io.StringIO())
  screen.print(done.table())
  told = ' '.join(screen.file.getvalue().split())  # however it is wrapped
  assert 'forward pass: ' in told and '20 steps (0.513 epochs)' in told
  page = (done.folder / 'report.html').read_text()
  assert page.count('forward ms') == 2 and page.count('forward MiB') == 2
  assert '>epoch<' in page and '>all s<' in page


def test_weight_norm_is_folded_where_that_is_exact():
  config = lab.load({
      'models': {'wn': {'kind': 'weight_norm_small', 'norm': 'weight',
                        'depth': 1, 'width': 4}},
      'methods': {'adam': {'optimizer': 'adam'}}})
  problem = make_problem.join(config.models['wn'], sources.load(config.data))
  params, extra = problem.init(0)
  served = forward(problem, params, extra)
  x = problem.dataset.test.x
  np.testing.assert_allclose(
      served.apply(served.variables, x),
      problem.outputs(params, extra, x, train=False), rtol=1e-5, atol=1e-6)
  size = lambda tree: sum(leaf.size for leaf in jax.tree.leaves(tree))  # noqa: E731
  assert size(served.variables) < size(params)  # the lengths are gone
  alone, batch = forward_timing.measure(served, problem.dataset.test)
  assert (alone.batch, batch.batch) == (1, len(x))


def test_a_long_pass_is_not_made_often():
  asked = []
  call = lambda count: asked.append(count) or 10.0 * count  # noqa: E731
  assert forward_timing._once(call) == 10.0 and sum(asked) == 2


def test_bare_optimizers_that_differ_in_options_are_timed_apart():
  """Two decays of SING are measured against AdamW of the same two."""
  config = lab.load({
      'models': {'mlp': {'kind': 'mlp'}}, 'methods': {
          f'sing{i}': {'optimizer': 'adamw', 'normalize': 'sing',
                       'options': {'weight_decay': decay}}
          for i, decay in enumerate([0.1, 0.2, 0.3])}})
  assert list(step_cost.programs(config, 'mlp'))[3:] == [
      'adamw alone', 'adamw alone, weight_decay = 0.2',
      'adamw alone, weight_decay = 0.3']
