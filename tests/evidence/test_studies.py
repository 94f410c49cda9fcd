"""The core of every study, at tiny sizes, against an obvious reference."""

import functools

import jax
import numpy as np
import optax
import pytest
from jax import numpy as jnp
from scipy import integrate, stats

from benchmarks.evidence.studies import (
  bng_equal_loss,
  cartpole,
  dqn,
  narrow_minima,
  path_refresh,
  recurrent_trial,
  vae,
  wn_inference,
)
from benchmarks.evidence.studies.search import Plan
from gradnorm_optax.lab.data import long_dependency
from gradnorm_optax.lab.models.recurrent import Recurrent


def gymnasium(state, action):
  """One step of CartPole-v1 as Gymnasium writes it, in float64."""
  x, x_dot, theta, theta_dot = np.asarray(state, np.float64)
  gravity, masscart, masspole, length = 9.8, 1.0, 0.1, 0.5
  total_mass, polemass_length = masspole + masscart, masspole * length
  force = 10.0 if action == 1 else -10.0
  costheta, sintheta = np.cos(theta), np.sin(theta)
  temp = (force + polemass_length * theta_dot**2 * sintheta) / total_mass
  thetaacc = (gravity * sintheta - costheta * temp) / (
      length * (4.0 / 3.0 - masspole * costheta**2 / total_mass))
  xacc = temp - polemass_length * thetaacc * costheta / total_mass
  x, x_dot = x + 0.02 * x_dot, x_dot + 0.02 * xacc
  theta, theta_dot = theta + 0.02 * theta_dot, theta_dot + 0.02 * thetaacc
  return np.array([x, x_dot, theta, theta_dot]), bool(
      x < -2.4 or x > 2.4 or theta < -12 * 2 * np.pi / 360
      or theta > 12 * 2 * np.pi / 360)


def test_cartpole_is_gymnasiums():
  rng = np.random.default_rng(0)
  states = rng.uniform(-1, 1, (64, 4)) * (2.6, 2.0, 0.23, 2.0)
  actions = rng.integers(0, 2, 64)
  ages = np.where(np.arange(64) % 8, 3, cartpole.MOST - 1)
  worlds = cartpole.World(jnp.asarray(states, jnp.float32),
                          jnp.asarray(ages, jnp.int32))
  after, fell, ends = jax.jit(jax.vmap(cartpole.step))(
      worlds, jnp.asarray(actions, jnp.int32))
  expected = [gymnasium(*pair) for pair in zip(states, actions, strict=True)]
  np.testing.assert_allclose(
      after.physics, [state for state, _ in expected], rtol=1e-4, atol=1e-5)
  down = np.array([down for _, down in expected])
  assert 10 < down.sum() < 54  # both happen
  np.testing.assert_array_equal(fell, down)
  np.testing.assert_array_equal(ends, down | (ages == cartpole.MOST - 1))


def test_dqn_targets():
  found = dqn.targets(jnp.array([[1.0, 3.0], [5.0, 2.0]]),
                      jnp.array([0.0, 1.0]), 0.5)
  np.testing.assert_allclose(found, [1 + 0.5 * 3, 1])


def test_dqn_runs_and_resumes(tmp_path):
  settings = dqn.Settings(steps=80, fill=20, judged=30, width=4, batch=8,
                          explore=20, sync=7)
  plan = Plan(('mean_only',), (1e-3, 1e-2), tune_seeds=1, seeds=1, widen=0,
              group=2)
  dqn.run(tmp_path / 'x.json', plan, settings)
  kept = (tmp_path / 'x.json').read_text()
  dqn.run(tmp_path / 'x.json', plan, settings)
  assert (tmp_path / 'x.json').read_text() == kept
  found = dqn.Book(tmp_path / 'x.json', 'dqn', dqn.MEASURE, True,
                   {**plan.settings(), **settings._asdict()})
  assert len(found.trials) == 3
  for trial in found.trials:
    assert trial['value'] == pytest.approx(
        settings.judged / max(trial['extra']['episodes'], 1))


def test_a_bound_is_the_integral_that_it_estimates():
  slope, shift = np.array([1.3, -0.7, 0.2]), np.array([0.1, 0.4, -0.9])
  x, mean, log_variance = np.array([1.0, 0.0, 1.0]), 0.6, -0.8
  prior, posterior = stats.norm(), stats.norm(mean, np.exp(log_variance / 2))

  def likelihood(z):
    chance = 1 / (1 + np.exp(-(slope * z + shift)))
    return np.log(np.where(x == 1, chance, 1 - chance)).sum()

  expected, _ = integrate.quad(
      lambda z: posterior.pdf(z) * (
          likelihood(z) + prior.logpdf(z) - posterior.logpdf(z)), -8, 8)
  z, weights = np.polynomial.hermite_e.hermegauss(40)
  logits = slope * (mean + np.exp(log_variance / 2) * z)[:, None] + shift
  found = vae.bound(jnp.asarray(logits), jnp.full((40, 1), mean),
                    jnp.full((40, 1), log_variance), jnp.asarray(x))
  assert np.dot(found, weights) / weights.sum() == pytest.approx(
      expected, rel=1e-5)


def test_a_vae_learns():
  settings = vae.Settings(steps=30, early=2, batch=16, width=16, latent=2,
                          samples=1)
  x = jnp.asarray(vae.pictures('tune')[0][:64])
  last, early, _ = jax.jit(functools.partial(
      vae.trial, 'adamax/weight_norm', settings))(x, x, 0.01, 0)
  assert last > early + 1


@pytest.mark.parametrize('blocks', [1, 5])
@pytest.mark.parametrize('arm', ['bng', 'sing_sgd'])
def test_a_step_of_unit_blocks_has_the_length_of_the_rule(arm, blocks):
  settings = narrow_minima.SETTINGS
  params = narrow_minima.start(jax.random.key(0), blocks, settings)
  tx = narrow_minima.optimizer(arm, 0.3)
  slope = jax.grad(narrow_minima.landscape)(params, settings)
  updates, _ = tx.update(slope, tx.init(params), params)
  assert np.linalg.norm(updates['kernel']) == pytest.approx(
      0.3 * np.sqrt(blocks), rel=1e-5)


def test_the_landscape_has_a_narrow_and_a_wide_minimum():
  settings = narrow_minima.SETTINGS
  def height(along):
    kernel = np.zeros((2, 4, 4), np.float32)
    kernel[0, 0, 0] = along
    return float(narrow_minima.landscape(
        {'kernel': jnp.asarray(kernel)}, settings))
  line = np.linspace(-1, 8, 2001)
  heights = [height(along) for along in line]
  lowest = [line[i] for i in range(1, 2000)
            if heights[i] < min(heights[i - 1], heights[i + 1])]
  assert lowest == [pytest.approx(0, abs=0.005),
                    pytest.approx(settings.away, abs=0.005)]
  edge = settings.diameter / 2
  assert height(0.02) == pytest.approx(
      settings.bend * (settings.away - 0.02)**2 / 2
      - settings.depth * (1 - (0.02 / edge)**2)**2, rel=1e-5)


def test_narrow_minima_are_left_by_the_rule(tmp_path):
  narrow_minima.run(
      tmp_path / 'x.json', narrow_minima.Settings(steps=2, starts=4),
      blocks=(4,), arms=('sing_sgd',), seeds=1)
  book = narrow_minima.Book(
      tmp_path / 'x.json', 'narrow_minima', narrow_minima.MEASURE, True, {
          'arms': ['sing_sgd'], 'blocks': [4],
          'reach': list(narrow_minima.REACH), 'seeds': 1,
          **narrow_minima.Settings(steps=2, starts=4)._asdict()})
  by_reach = {t['extra']['reach']: t['value'] for t in book.trials}
  assert all(by_reach[r] == 1 for r in by_reach if r > 1)
  assert all(by_reach[r] == 0 for r in by_reach if r < 0.04)


def scales(params):
  """gamma_in * gamma_out of a net of dense layers, in float64."""
  layers = [{k: np.asarray(v, np.float64)**2 for k, v in params[name].items()}
            for name in sorted(params)]
  into, out = [np.ones(64)], [np.ones(10)]
  for layer in layers:
    into.append(into[-1] @ layer['kernel'] + layer['bias'])
  for layer in layers[::-1]:
    out.insert(0, layer['kernel'] @ out[0])
  return {name: {'kernel': np.outer(into[i], out[i + 1]), 'bias': out[i + 1]}
          for i, name in enumerate(sorted(params))}


def test_old_path_scales_serve_until_they_are_refreshed():
  settings = path_refresh.Settings(width=6)
  params = path_refresh.start(settings, jax.random.key(3))
  tx = path_refresh.optimizer('every_5', 1.0, settings)
  state, ones = tx.init(params), jax.tree.map(jnp.ones_like, params)
  first = scales(params)
  for at in range(6):
    moved = jax.tree.map(lambda p, at=at: p * (1 + at), params)
    updates, state = tx.update(ones, state, moved)
    expected = scales(moved) if at % 5 == 0 else first
    for name, layer in expected.items():
      for kind, gamma in layer.items():
        np.testing.assert_allclose(
            updates[name][kind], -1 / gamma, rtol=1e-4)


def test_a_refresh_costs_about_an_example():
  flops = path_refresh.step_flops(path_refresh.Settings(width=16, batch=10))
  extra = flops['every_1'] - flops['sgd']
  assert flops['every_20'] - flops['sgd'] == pytest.approx(extra / 20)
  assert 0 < extra < 0.5 * flops['sgd']


def test_the_score_at_a_level_is_the_first_below_it():
  losses = jnp.array([3.0, 0.2, 0.04, 0.06, 0.01])
  scores = jnp.array([0.1, 0.5, 0.7, 0.8, 0.9])
  score, place = bng_equal_loss.first(losses, scores, 0.05)
  assert (float(score), int(place)) == (pytest.approx(0.7), 2)
  assert np.isnan(bng_equal_loss.first(losses, scores, 0.001)[0])
  assert np.isnan(bng_equal_loss.first(losses * jnp.nan, scores, 0.05)[0])


def test_folded_nets_cost_and_answer_as_plain_ones():
  found = wn_inference.compare('mlp', 1)
  assert found['folded'] == found['plain']
  assert found['wrapped']['flops'] > found['plain']['flops']
  assert wn_inference.difference('mlp', 0) < 1e-5


def plain_training(setting, rate, seed):
  """Momentum on the first examples of the same pools, step by step."""
  task = long_dependency.make(setting.task, setting.length)
  net = Recurrent(task.outputs, task.inputs, setting.width, start='orthogonal',
                  scale=setting.scale, readout=task.readout)
  start, pools, _, last = jax.random.split(jax.random.key(seed), 4)
  params = net.init(start, jnp.zeros((1, task.steps), jnp.int32))['params']

  @jax.jit
  def slope_of(params, x, y):
    slope = jax.grad(lambda w: task.losses(
        net.apply({'params': w}, x), y).mean())(params)
    norm = optax.tree.norm(slope)
    return jax.tree.map(lambda g: g / jnp.maximum(norm, 1.0), slope)

  speed = jax.tree.map(jnp.zeros_like, params)
  for at in range(setting.steps):
    pool = task.sample(jax.random.fold_in(pools, at), setting.pool)
    slope = slope_of(params, pool.x[:setting.size], pool.y[:setting.size])
    speed = jax.tree.map(lambda v, g: 0.9 * v + g, speed, slope)
    params = jax.tree.map(lambda p, v: p - rate * v, params, speed)
  test = task.sample(last, setting.held_out)
  return float(task.right(net.apply({'params': params}, test.x),
                          test.y).mean())


def test_an_open_range_is_plain_training_and_an_empty_one_always_acts():
  setting = recurrent_trial.Setting(
      'temporal_order', 10, 0.9, steps=40, width=8, pool=12, size=4,
      held_out=400)
  both = recurrent_trial.OPEN, (9.0, 9.0)
  found = recurrent_trial.compiled(setting)(recurrent_trial.Case(
      jnp.full(2, 0.3), jnp.full(2, 7, jnp.int32),
      jnp.array([low for low, _ in both], jnp.float32),
      jnp.array([high for _, high in both], jnp.float32),
      jnp.zeros(2, bool)))
  assert float(found.acted[0]) == 0 and float(found.acted[1]) > 0.9
  assert np.isfinite(found.q).all() and found.q.shape == (2, 4)
  # An example or two may lie on a border that rounding moves.
  assert float(found.right[0]) == pytest.approx(
      plain_training(setting, 0.3, 7), abs=0.01)
