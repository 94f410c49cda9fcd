"""The lab's train step: same pools for every rule, and a log of the choice."""

import json

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp

from gradnorm_optax import sgr
from gradnorm_optax.lab import recurrent, sampling, tasks


@pytest.fixture(scope='module')
def trained():
  """Returns the records of 12 steps of each rule on one tiny problem."""
  task = tasks.make('temporal_order', 20)
  model = recurrent.Recurrent.of(task, width=8, scale=0.5)
  train = task.sample(jax.random.key(1), 60)
  tx, found = optax.sgd(1e-3), {}
  for rule in ('sgr', 'random', 'all'):
    step = sampling.make_step(model, task, tx, sampling.Sampling(
        rule, pool=12, size=4, probe=6))
    with jax.numpy_dtype_promotion('standard'):
      found[rule] = jax.tree.map(np.asarray, jax.jit(
          lambda state, step=step: jax.lax.scan(
              lambda s, _: step(s, train, jax.random.key(2)), state,
              length=12))(sampling.start(model, tx, 0)))
  return task, model, train, found


def test_rules_share_pools_and_differ_in_what_they_keep(trained):
  _, _, _, found = trained
  records = {rule: record for rule, (_, record) in found.items()}
  np.testing.assert_array_equal(records['sgr'].pool, records['random'].pool)
  assert all(len(set(row)) == 12 for row in records['sgr'].pool)
  assert all(len(set(row)) == 4 for row in records['sgr'].kept)
  assert (records['sgr'].mode == 1).all() and (records['sgr'].q < -1).all()
  assert (records['random'].mode == 0).all()
  assert np.isnan(records['random'].q).all()
  assert records['all'].kept.shape == (12, 12)


def test_the_chosen_ones_raise_the_norm(trained):
  """Q of the whole training set, after as many steps on either rule."""
  task, model, train, found = trained
  loss, shape = recurrent.losses(model, task), model.perturb_shape(20, 60)
  measure = jax.jit(lambda params: sgr.long_term_log_norm(
      sgr.deltas(loss, params, train, shape), 18, relative=True))
  q = {rule: float(measure(jax.tree.map(jnp.asarray, state.params)))
       for rule, (state, _) in found.items()}
  assert q['sgr'] > max(q['random'], q['all'])


def test_log_of_chosen_and_left_out(trained, tmp_path):
  _, _, _, found = trained
  path = tmp_path / 'selection.jsonl'
  record = found['sgr'][1]
  sampling.append_log(path, 0, record)
  sampling.append_log(path, 12, found['random'][1])
  lines = [json.loads(line) for line in path.read_text().splitlines()]
  assert [line['step'] for line in lines] == list(range(24))
  for i, line in enumerate(lines[:12]):
    assert line['kept'] == sorted(record.pool[i][record.kept[i]].tolist())
    assert sorted(line['kept'] + line['left']) == sorted(
        record.pool[i].tolist())
    assert line['mode'] == 1
    assert line['q'] == pytest.approx(float(record.q[i]), abs=1e-4)
  assert lines[12]['q'] is None


def test_profile_over_time(trained):
  task, model, train, found = trained
  params = jax.tree.map(jnp.asarray, found['sgr'][0].params)
  loss = recurrent.losses(model, task)
  shape = model.perturb_shape(20, 60)
  profile = sampling.delta_profile(loss, params, train, shape)
  d = np.asarray(sampling.sgr.deltas(loss, params, train, shape), np.float64)
  want = np.log10(np.linalg.norm(d, axis=-1).mean(axis=1))
  np.testing.assert_allclose(profile, want, rtol=1e-5, atol=1e-5)
  assert (np.diff(want) > 0).all()  # it vanishes backwards
