"""Runs that are no number: which step and block, and no wrong advice."""

import json

import jax
import jax.numpy as jnp
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.data import sources
from gradnorm_optax.lab.training import diagnosis, make_problem


@pytest.fixture
def wild(tiny):
  """Rates at which no run stays finite."""
  tiny.write_text(tiny.read_text().replace(
      '[0.01, 0.1, 1.0]', '[1e28, 1e29, 1e30]').replace('look = 0', 'look = 2'))
  return tiny


def test_a_comparison_without_one_finite_run(wild, gradnorm, monkeypatch):
  monkeypatch.setenv('COLUMNS', '1000')
  code, out, err = gradnorm('compare', wild, '--out', wild.parent / 'run')
  assert code == 3, err
  # What train says, word for word.
  step, rate = next((row['seed'], row['rate']) for row in map(json.loads, (
      wild.parent / 'run' / 'trials.jsonl').read_text().splitlines())
                    if row['phase'] == 'final')
  told, = {row['text'] for row in map(json.loads, (
      wild.parent / 'run' / 'trials.jsonl').read_text().splitlines())
           if row['phase'] == 'fault' and row['method'] == 'momentum'}
  again, _, err = gradnorm(
      'train', wild, '--out', wild.parent / 'one', '--set',
      f'run.seed={step}', '--set', f'run.learning_rate={rate}')
  assert again == 3 and err == f'gradnorm: {told}\n'
  assert 'Lower the learning rate' in told and 'block ' in told
  page = (wild.parent / 'run' / 'report.html').read_text()
  for shown in (out, page.replace('&#34;', '"')):
    assert told in shown and 'not finite' in shown
    assert 'better than guessing' not in shown.partition('Methods')[0]


@pytest.mark.parametrize('what', ['start', 'loss'])
def test_the_first_batch_is_no_matter_of_the_rate(tiny, what):
  config = lab.load(tiny)
  problem = make_problem.join(
      config.models['small'], sources.load(config.data))

  class Broken(type(problem)):
    def init(self, seed):
      params, extra = super().init(seed)
      if what == 'start':
        params = {**params, 'output': jax.tree.map(
            lambda p: p / 0, params['output'])}
      return params, extra

    def loss(self, *args):
      loss, extra = super().loss(*args)
      return jnp.log(-1 - loss) if what == 'loss' else loss, extra

  told = diagnosis.of_trial(
      Broken(*problem), config.methods['momentum'], config.train, 0.01, 0, 0)
  assert told.startswith('step 1: ') and 'rate' not in told
  assert ('block output is not finite then: look at the initialization'
          if what == 'start' else 'look at the data and the loss') in told
