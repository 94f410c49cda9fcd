"""The lab's steps on chosen examples: what is kept, and the log of it."""

import json

import jax
import numpy as np
import pytest
from jax import numpy as jnp

from gradnorm_optax import lab, sgr
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import bare_optimizer, example_choice
from gradnorm_optax.lab.run import compiled_run as trainer_lib
from gradnorm_optax.lab.support.errors import LabError
from gradnorm_optax.lab.support.jsonl import Lines
from gradnorm_optax.lab.training import pascanu, through_time

CONFIG = {
    'data': {'source': 'long_dependency', 'task': 'temporal_order',
             'length': 20, 'sizes': [60, 60, 20]},
    'models': {'srn': {'kind': 'recurrent', 'width': 8, 'scale': 0.5}},
    'methods': {
        'sgr': {'optimizer': 'sgd', 'sampling': {'size': 4}},
        'inside': {'optimizer': 'sgd', 'sampling': {
            'size': 4, 'low': -90.0, 'high': 90.0}},
        'random': {'optimizer': 'sgd', 'sampling': {
            'size': 4, 'rule': 'random'}},
        'pascanu': {'optimizer': 'sgd', 'pascanu': 0.5}},
    'train': {'steps': 12, 'eval_every': 12, 'batch_size': 12},
    'run': {'learning_rate': 1e-3}}


@pytest.fixture(scope='module')
def trained():
  """Trainer, first state, last state and figures of 12 steps, by method."""
  found = {}
  with jax.numpy_dtype_promotion('standard'):
    for name in ('sgr', 'inside', 'random'):
      trainer = trainer_lib.Trainer(lab.load(CONFIG, [f'run.method={name}']))
      first = trainer.start()
      last, figures = jax.jit(trainer.stretch)(first, trainer.parts[0])
      found[name] = trainer, first, last, jax.tree.map(np.asarray, figures)
  return found


def test_rules_share_batches_and_differ_in_what_they_keep(trained):
  figures = {name: row[3] for name, row in trained.items()}
  for name in ('inside', 'random'):
    np.testing.assert_array_equal(figures['sgr'].rows, figures[name].rows)
  assert all(len(set(row)) == 12 for row in figures['sgr'].rows)
  assert all(len(set(row)) == 4 for row in figures['sgr'].choice.kept)
  assert (figures['sgr'].choice.mode == 1).all()
  assert (figures['sgr'].choice.q < -1).all()
  for name in ('inside', 'random'):
    assert (figures[name].choice.mode == 0).all()
    assert (figures[name].choice.kept == np.arange(4)).all()
  assert np.isnan(figures['random'].choice.q).all()


def test_in_range_a_step_is_the_plain_one(trained):
  inside, random = (trained[name][2].params for name in ('inside', 'random'))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
               inside, random)


def test_gradient_is_that_of_the_kept_examples(trained):
  """Against the scores, the choice and the gradient, each by itself."""
  trainer, state, _, figures = trained['sgr']
  problem, rows = trainer.problem, figures.rows[0]
  pool = jax.tree.map(lambda a: jnp.asarray(a[rows]), problem.dataset.train)
  loss = through_time.per_example_loss(problem)
  choice = jax.tree.map(lambda a: a[0], figures.choice)
  with jax.numpy_dtype_promotion('standard'):
    s, q = jax.jit(lambda params: sgr.contributions(
        loss, params, pool, shape=through_time.shape(problem, pool.x),
        horizon=round(0.9 * 19), probe=4, relative=True))(state.params)
    assert choice.q == pytest.approx(float(q), abs=1e-4)
    assert set(choice.kept) == set(np.argsort(np.asarray(s))[-4:])
    kept = jax.tree.map(lambda a: a[choice.kept], pool)
    gradient = jax.jit(jax.grad(lambda w: loss(w, kept, jnp.zeros(
        through_time.shape(problem, kept.x))).mean()))(state.params)
    norm = np.sqrt(sum(float((g ** 2).sum()) for g in jax.tree.leaves(
        gradient)))
  assert figures.gradient[0] == pytest.approx(norm, rel=1e-4)


def test_the_chosen_ones_raise_the_norm(trained):
  """Q of the validation set, after as many steps on either rule."""
  with jax.numpy_dtype_promotion('standard'):
    q = {}
    for name, (trainer, _, last, _) in trained.items():
      profile = through_time.profile(
          trainer.problem, last.params, trainer.parts[1])
      q[name] = float(profile[2] - profile[-1])
  assert q['sgr'] > q['random']


def test_log_of_chosen_and_left_out(trained, tmp_path):
  path = tmp_path / 'selection.jsonl'
  log = Lines(path, 0)
  for first, name in ((1, 'sgr'), (13, 'random')):
    figures = trained[name][3]
    log.add(example_choice.lines(first, figures.rows, figures.choice))
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  assert [row['step'] for row in rows] == list(range(1, 25))
  figures = trained['sgr'][3]
  for i, row in enumerate(rows[:12]):
    assert row['kept'] == sorted(
        figures.rows[i][figures.choice.kept[i]].tolist())
    assert sorted(row['kept'] + row['left']) == sorted(
        figures.rows[i].tolist())
    assert row['mode'] == 1
    assert row['q'] == pytest.approx(float(figures.choice.q[i]), abs=1e-4)
  assert rows[12]['q'] is None
  path.write_text(path.read_text() + '{"step": 25, "mo')
  assert [row['step'] for row in Lines(path, 20).rows] == list(range(1, 21))
  assert len(path.read_text().splitlines()) == 20


def test_profile_over_time(trained):
  trainer, state, _, _ = trained['sgr']
  problem = trainer.problem
  part = jax.tree.map(lambda a: a[:50], trainer.parts[1])
  with jax.numpy_dtype_promotion('standard'):
    profile = through_time.profile(problem, state.params, trainer.parts[1])
    d = np.asarray(sgr.deltas(
        through_time.per_example_loss(problem), state.params, part,
        through_time.shape(problem, part.x)), np.float64)
  want = np.log10(np.linalg.norm(d, axis=-1).mean(axis=1))
  np.testing.assert_allclose(profile, want, rtol=1e-5, atol=1e-5)
  assert (np.diff(want) > 0).all()  # it vanishes backwards
  assert through_time.moments(want[None], 12) == {
      '12': [round(float(v), 3) for v in want]}


def test_regularizer_is_the_papers_sum(trained):
  """Omega and its slope by the kernel, step by step in float64."""
  rng = np.random.default_rng(0)
  w, d = rng.normal(0, 0.4, (5, 5)), rng.normal(0, 1, (6, 3, 5))
  slopes = rng.uniform(0.2, 1.0, (6, 3, 5))
  d[4, 1] = 0.0  # nothing arrives: left out

  def total(w):
    found = 0.0
    for k in range(5):
      for i in range(3):
        after = d[k + 1, i]
        if after.any():
          back = (after @ w.T) * slopes[k, i]
          found += (np.linalg.norm(back) / np.linalg.norm(after) - 1) ** 2
    return found / 3

  with jax.enable_x64(True):
    arrays = [jnp.asarray(a, jnp.float64) for a in (w, d * 1e-170, slopes)]
    value, slope = jax.value_and_grad(pascanu.omega)(*arrays)
  assert float(value) == pytest.approx(total(w), rel=1e-12)
  numeric = np.zeros_like(w)
  for at in np.ndindex(*w.shape):
    step = np.zeros_like(w)
    step[at] = 1e-6
    numeric[at] = (total(w + step) - total(w - step)) / 2e-6
  np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-8)


def test_regularized_gradient_adds_to_the_recurrent_kernel(trained):
  trainer, state, _, _ = trained['random']
  problem = trainer.problem
  batch = jax.tree.map(lambda a: jnp.asarray(a[:12]), problem.dataset.train)
  with jax.numpy_dtype_promotion('standard'):
    plain, _, without = pascanu.gradient(
        problem, state.params, batch, 0.0)
    (want, _), slope = jax.value_and_grad(problem.loss, has_aux=True)(
        state.params, {}, batch.x, batch.y)
    _, _, with_it = pascanu.gradient(problem, state.params, batch, 0.5)
  assert float(plain) == pytest.approx(float(want), rel=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(
      a, b, rtol=1e-4, atol=1e-7), without, slope)
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), with_it, without)
  assert [path for path, flag in jax.tree.leaves_with_path(moved)
          if flag] == [(jax.tree_util.DictKey('recurrent'),
                        jax.tree_util.DictKey('kernel'))]


def test_only_recurrent_nets_can_be_looked_through(trained):
  config = {**CONFIG, 'models': {'mlp': {'kind': 'mlp'}},
            'data': {'source': 'digits'}}
  for name in ('sgr', 'pascanu'):
    trainer = trainer_lib.Trainer(lab.load(config, [f'run.method={name}']))
    with pytest.raises(LabError, match='need.* recurrent|is for a'):
      trainer.one(trainer.start(), trainer.parts[0])


@pytest.mark.parametrize('name', ['sgr', 'random'])
def test_a_pool_smaller_than_the_choice_is_named(name):
  trainer = trainer_lib.Trainer(lab.load(
      CONFIG, [f'run.method={name}', 'data.sizes=[3, 3, 3]']))
  with pytest.raises(LabError, match='size = 4 of batches of 3.*Take fewer'):
    trainer.one(trainer.start(), trainer.parts[0])


@pytest.mark.parametrize('change, message', [
    ('methods.sgr.sampling.size=13', 'exceeds train.batch_size'),
    ('methods.sgr.sampling.low=2.0', 'must not exceed high'),
    ('methods.sgr.sampling.low=atuo', r"sampling\] low: .* not 'atuo' \(from"),
    ('methods.sgr.pascanu=1.0', 'must be "random"'),
    ('train.accumulate=2', 'whole batch'),
])
def test_settings_that_do_not_fit_are_named(change, message):
  with pytest.raises(LabError, match=message):
    lab.load(CONFIG, [change])


def test_a_range_is_learned_from_the_first_steps():
  """100 steps as they come; then as with the numbers that were learned."""
  auto = dict.fromkeys(('size', 'horizon', 'low', 'high'), 'auto')
  trainer = trainer_lib.Trainer(lab.load(CONFIG, [
      'train.steps=110', 'train.eval_every=110', 'run.method=sgr',
      f'methods.sgr.sampling={json.dumps(auto).replace(":", "=")}']))
  with jax.numpy_dtype_promotion('standard'):
    last, figures = jax.jit(trainer.stretch)(
        trainer.start(), trainer.parts[0])
  choice = jax.tree.map(np.asarray, figures.choice)
  assert choice.kept.shape == (110, 2)  # a fifth of twelve
  assert (choice.mode[:100] == 0).all()
  assert (choice.kept[:100] == np.arange(2)).all()
  q = np.clip(np.sort(choice.q[:100].astype(np.float64)), -1.0, -0.5)
  learned = last.opt_state[0]
  np.testing.assert_allclose(
      (learned.low, learned.high), (q[5] - 1.5, q[94] + 1.5), rtol=1e-6)
  late = choice.q[100:]
  np.testing.assert_array_equal(choice.mode[100:], np.where(
      late < learned.low, 1, np.where(late > learned.high, -1, 0)))
  assert (choice.mode[100:] == 1).any()


def test_bare_steps_take_as_many_examples():
  method = schema.Method(optimizer='momentum', clip=1.0, sampling={'size': 7})
  bare = bare_optimizer.bare(method)
  assert (bare.clip, bare.sampling.rule, bare.sampling.size) == (
      None, 'random', 7)
  assert not bare_optimizer.is_baseline(method)
  assert bare_optimizer.is_baseline(bare)
