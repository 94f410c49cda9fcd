"""`--minutes`: what fits a time, said before and held."""

import itertools
import math

import numpy as np
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.comparison import missing, runner, time_budget
from gradnorm_optax.lab.results import budget, judging
from gradnorm_optax.lab.results.budget import Costs, Numbers
from gradnorm_optax.lab.results.store import Store
from gradnorm_optax.lab.results.trials import PHASES
from gradnorm_optax.lab.support.remaining import Remaining

SIX = 'compare.learning_rates=[0.001, 0.003, 0.01, 0.03, 0.1, 0.3]'


def loaded(path, *overrides):
  return lab.load(path, [SIX, 'compare.tune_seeds=3', 'compare.seeds=8',
                         *overrides])


@pytest.mark.parametrize('overrides, trials', [
    ((), 18 + 8), (('compare.extend=2',), 18 + 6 + 8),
    (('compare.halving=true', 'train.eval_every=5'), 18 / 4 + 9 + 8)])
def test_nothing_more_would_fit(tiny, overrides, trials):
  """Against all numbers there are; 10 s for all but trials, 1.5 s a trial."""
  config = loaded(tiny, *overrides)
  costs = Costs((1.0, 2.0), 2, 1, 10.0)
  every = [Numbers(*one) for one in itertools.product(
      range(3, 7), range(1, 4), range(3, 9))]
  for limit in range(15, 80, 5):
    fits = [one for one in every if budget.seconds(config, costs, one) <= limit]
    found = budget.choose(config, costs, limit)
    if found is None:
      assert not fits
      continue
    assert found in fits
    # One more seed of the judged ones would not.
    assert found.seeds == 8 or found._replace(seeds=found.seeds + 1) not in fits
    # No tuning seed and no rate is missing while judged seeds are plenty.
    if found.rates < 6 or found.tune_seeds < 3:
      fuller = found._replace(rates=6, tune_seeds=3, seeds=5)
      assert fuller not in fits
  assert budget.seconds(
      config, costs, budget.asked(config)) == 10 + 1.5 * trials


def test_calls_that_trials_share_are_counted(tiny):
  config = loaded(tiny)
  costs = Costs((4.0,), 1, 10, 0.0)
  # 18 tuning trials are two calls of ten, 8 fresh ones a third.
  assert budget.seconds(config, costs, Numbers(6, 3, 8)) == 12.0


def test_grids_are_thinned_alike(tiny):
  config = loaded(tiny, 'methods.momentum.learning_rates=[6, 5, 4, 3, 2, 1]')
  few = budget.restricted(config, Numbers(4, 1, 3))
  assert few.compare.learning_rates == (0.001, 0.01, 0.03, 0.3)
  assert few.methods['momentum'].learning_rates == (6, 4, 3, 1)
  assert few.methods['clip_momentum'].learning_rates is None
  assert lab.load(few) == few  # a configuration like any other


def test_the_least_difference_is_the_interval_s():
  """Beside the intervals of the lab's own judging."""
  rng = np.random.default_rng(0)
  for seeds in (3, 6, 10):
    one, two = rng.normal(size=(2, 4000, seeds))
    halves = [judging.half_width(d[:, None]) for d in one - two]
    # The root mean square of a sample's deviation is that of the whole.
    assert np.sqrt(np.mean(np.square(halves))) == pytest.approx(
        budget.visible(seeds), rel=0.03)
  for examples in (80, 400):
    k = budget.visible_examples(examples)
    for count, seen in ((k, True), (k - 1, False)):
      differ = np.zeros(examples)
      differ[:count] = 1.0
      table = np.tile([differ[rows].mean() for rows in np.array_split(
          np.arange(examples).reshape(examples // 40, 40).T.ravel(), 40)],
                      (5, 1))
      found = judging.of_table(np.full(5, count / examples), table)
      assert (found.low > 0) == seen


def test_it_is_said_what_cannot_be_seen():
  assert budget.told(30, Numbers(5, 2, 6), Numbers(7, 2, 10), 1500, 270) == (
      '30 min: 5 rates x 2 seeds, 6 fresh seeds instead of 7 rates x 2 seeds, '
      '10 fresh seeds, about 25 min; a difference below 1.5 points (4 of 270 '
      "test examples) or 1.5 times the scores' spread over seeds cannot be "
      'seen')
  assert 'points' not in budget.told(1, *[Numbers(3, 1, 3)] * 2, 50, None)
  assert 'no difference can be seen' in budget.told(
      1, *[Numbers(3, 1, 1)] * 2, 50, 270)


class Simulated(runner.Runner):
  """Trials of made-up scores on a clock of their own."""

  def __init__(self, config, folder, seconds, slower=1.0, seed=0):
    super().__init__(config)
    self.workers = 1
    self.clock, self.slower, self.rng = 0.0, slower, np.random.default_rng(seed)
    self.folder = folder
    self.use(Store(folder), Remaining(lambda: self.clock))
    self.told = seconds
    self.stop = math.inf

  def compile(self):
    self.schedule.plan_all(2)
    self.schedule.begin('compiling')
    self.clock += 4.0
    self.schedule.finish('compiling', 2)
    for job in missing.jobs(self.trials):
      self.schedule.compiled(job, self.told)

  def _each(self, work, items):
    for item in items:
      if not isinstance(item, missing.Call):
        self.clock += 1.0
        continue
      call = item
      self.clock += self.told * self.slower * self.rng.uniform(0.9, 1.1)
      if self.clock > self.stop:
        raise KeyboardInterrupt
      score = self.rng.uniform(0.2, 0.9)
      self.store.add({
          'fingerprint': self.trials.key(
              call.phase, call.pair, call.points[0], call.seeds[0]),
          'phase': call.phase, **call.pair._asdict(),
          **call.points[0].record(), 'seed': call.seeds[0],
          'seconds': self.told * self.slower,
          'diverged': False, 'test': None, 'history': {
              'score': [score] * 4, 'loss': [1.0] * 4,
              'train_loss': [1.0] * 4}})

  def conclude(self):
    self.clock += 2.0

  def close(self):
    self.store.close()

  def made(self):
    """{phase: {method: [(rate, seed)]}}."""
    found = {phase: {} for phase in PHASES}
    for row in self.store.records.values():
      if row['phase'] in found:
        found[row['phase']].setdefault(row['method'], []).append(
            (row['rate'], row['seed']))
    return found


@pytest.mark.parametrize('slower', [0.5, 1.0, 1.25])
@pytest.mark.parametrize('minutes', [1.5, 2.0, 4.0])
def test_the_time_is_held(tiny, tmp_path, minutes, slower):
  """Whatever the scores, and though trials take longer than was measured."""
  config, numbers, ends = loaded(tiny), set(), []
  for seed in range(2):  # two draws of the scores
    one = Simulated(config, tmp_path / f'{seed}', 1.0, slower, seed)
    said = []
    time_budget.run(one, minutes, said.append)
    ends.append(one.clock)
    assert one.clock <= 1.1 * 60 * minutes
    assert len(said) == 1 and said[0].startswith(f'{minutes:g} min: ')
    made, trials = one.made(), one.trials
    asked = budget.asked(trials.config)
    numbers.add(asked)
    for method in config.methods:
      assert len(made['tune'][method]) == asked.rates * asked.tune_seeds
      assert len(made['final'][method]) == asked.seeds >= 3
    assert not any(trials.missing(phase, pair) for phase in PHASES
                   for pair in trials.pairs())
    one.close()
  if slower == 0.5:
    assert len(numbers) == 1
  assert min(ends) > 0.5 * 60 * minutes or numbers == {Numbers(6, 3, 8)}


def test_no_look_is_begun_when_the_time_is_over(tiny, tmp_path):
  one = Simulated(loaded(tiny, 'compare.look=3'), tmp_path, 1.0)
  one.schedule.limit = one.clock = 10.0
  one.clock += 1.0
  looks = missing.looks(one.trials)
  assert len(looks) == 2
  for pair in looks:
    one._look(pair)  # which would need a rate that no trial has chosen
  assert missing.looks(one.trials) == looks and not one.store.records
  one.close()


def test_it_goes_on_with_what_is_left(tiny, tmp_path):
  config = loaded(tiny)
  first = Simulated(config, tmp_path, 1.0)
  first.stop, said = 30.0, []
  with pytest.raises(KeyboardInterrupt):
    time_budget.run(first, 2.0, said.append)
  first.close()
  before = first.made()
  again = Simulated(config, tmp_path, 1.0)
  time_budget.run(again, 2.0, said.append)
  assert len(said) == 1 and again.clock < 120.0 - 20.0
  asked = budget.asked(again.trials.config)
  assert str(asked).split(',')[0] in said[0]
  for method, trials in before['tune'].items():
    assert set(trials) <= set(again.made()['tune'][method])
  again.close()
  # A third time nothing is run, and it is the same comparison.
  last = Simulated(config, tmp_path, 1.0)
  count = len(last.store.records)
  time_budget.run(last, 2.0, said.append)
  assert len(last.store.records) == count and len(said) == 1
  assert last.trials.config == again.trials.config
  last.close()


def test_a_time_that_decides_nothing_is_refused(tiny, tmp_path, gradnorm):
  folder = tmp_path / 'run'
  code, out, err = gradnorm('compare', tiny, '--out', folder, '--minutes', 0.01)
  assert code == 2 and not out and err.count('\n') == 1
  assert 'the least that can decide (3 rates x 1 seed, 2 fresh seeds)' in err
  needed = float(err.split('needs --minutes ')[1].split(';')[0])
  assert 0.2 < needed < 5
  # Enough of it changes nothing, and is named in the report's command.
  code, out, err = gradnorm('compare', tiny, '--out', folder, '--minutes', 60)
  assert code == 0 and '60 min: 3 rates x 1 seed, 2 fresh seeds, about' in out
  assert '--minutes 60' in (folder / 'results.json').read_text()
  lines = (folder / 'trials.jsonl').read_text().splitlines()
  code, out, _ = gradnorm('compare', tiny, '--out', folder)
  assert code == 0 and 'instead' not in out
  assert (folder / 'trials.jsonl').read_text().splitlines() == lines
