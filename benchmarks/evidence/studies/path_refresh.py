"""What Path-SGD's `refresh_every` costs and gives, from an unbalanced start.

Source: Neyshabur et al. 2015 (arXiv 1506.02617), section 5: path scales are
computed anew in every step, at the cost of one more example a batch. Their
users ask whether old scales serve.

Expected: steps with scales of 5 or 20 steps ago reach the same loss; at 100
they may not; and the cost saved is small, about 1/batch of a step.

Cost: floating-point operations by XLA's analysis of one compiled step of SGD
and of Path-SGD; the difference is what a refresh costs.

Size: digits, two hidden layers of 128, batch 100, 300 steps, the unbalanced
start of the lab: one second a trial, some two minutes for all on two cores.
"""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import lax, numpy as jnp

import gradnorm_optax as gn
from benchmarks.evidence.studies import digits
from benchmarks.evidence.studies.book import Book
from benchmarks.evidence.studies.search import Plan, search
from gradnorm_optax import paths
from gradnorm_optax.lab.models.perceptron import MLP
from gradnorm_optax.linen import apply_fn

EVERY = {'every_1': 1, 'every_5': 5, 'every_20': 20, 'every_100': 100}
PLAN = Plan(arms=('sgd', *EVERY),
            rates=tuple(1e-3 * 10 ** (i / 2) for i in range(8)))


class Settings(NamedTuple):
  """What a trial is."""

  steps: int = 300
  batch: int = 100
  width: int = 128


SETTINGS = Settings()
MEASURE = 'training loss after 300 steps, of all training pictures'


def net(settings: Settings) -> MLP:
  """The ReLU net of all arms."""
  return MLP(2, settings.width, 'relu', 10)


def optimizer(arm: str, rate: Any,
              settings: Settings) -> optax.GradientTransformation:
  """SGD, after path scales of so many steps ago at most."""
  if arm == 'sgd':
    return optax.sgd(rate)
  return optax.chain(
      gn.normalize_by_path_scale(
          apply_fn(net(settings)), jax.ShapeDtypeStruct((1, 64), jnp.float32),
          refresh_every=EVERY[arm]),
      optax.sgd(rate))


def start(settings: Settings, key: jax.Array) -> Any:
  """Draws parameters, the units rescaled as in the paper's section 5."""
  begin, rescale = jax.random.split(key)
  params = net(settings).init(begin, jnp.zeros((1, 64)))['params']
  names = sorted(params)
  layers = paths.unbalance([params[name] for name in names], rescale)
  return dict(zip(names, layers, strict=True))


def mean_loss(settings: Settings, params: Any, x: Any, y: Any) -> jax.Array:
  """The mean cross-entropy."""
  return optax.softmax_cross_entropy_with_integer_labels(
      net(settings).apply({'params': params}, x), y).mean()


def trial(arm: str, settings: Settings, x: jax.Array, y: jax.Array,
          rate: jax.Array, seed: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Trains; returns the training loss at the end and at half time."""
  tx = optimizer(arm, rate, settings)
  begin, order = jax.random.split(jax.random.key(seed))

  def step(carry: Any, at: jax.Array) -> tuple[Any, None]:
    params, state = carry
    rows = jax.random.randint(
        jax.random.fold_in(order, at), (settings.batch,), 0, len(x))
    slope = jax.grad(lambda w: mean_loss(settings, w, x[rows], y[rows]))(params)
    updates, state = tx.update(slope, state, params)
    return (optax.apply_updates(params, updates), state), None

  params = start(settings, begin)
  carry = params, tx.init(params)
  half = settings.steps // 2
  places = jnp.arange(settings.steps, dtype=jnp.int32)
  carry, _ = lax.scan(step, carry, places[:half])
  early = mean_loss(settings, carry[0], x, y)
  carry, _ = lax.scan(step, carry, places[half:])
  return mean_loss(settings, carry[0], x, y), early


@functools.cache
def _compiled(arm: str, settings: Settings) -> Any:
  """One trial after another, so that a step refreshes only when it should."""
  def all_of(x: Any, y: Any, rates: Any, seeds: Any) -> Any:
    return lax.map(lambda pair: trial(arm, settings, x, y, *pair),
                   (rates, seeds))
  return jax.jit(all_of)


def step_flops(settings: Settings) -> dict[str, float]:
  """Operations of a step, the cost of a refresh shared by the steps it serves.

  Read from compiled steps of SGD and of Path-SGD with a refresh in each.
  """
  params = start(settings, jax.random.key(0))
  x, y = (a[:settings.batch] for a in digits.load().train)

  def flops(arm: str) -> float:
    tx = optimizer(arm, 1e-3, settings)

    def step(params: Any, state: Any, x: Any, y: Any) -> Any:
      slope = jax.grad(lambda w: mean_loss(settings, w, x, y))(params)
      updates, state = tx.update(slope, state, params)
      return optax.apply_updates(params, updates), state

    compiled = jax.jit(step).lower(params, tx.init(params), x, y).compile()
    found: Any = compiled.cost_analysis()
    return float(found['flops'])

  bare = flops('sgd')
  extra = flops('every_1') - bare
  return {'sgd': bare, **{
      arm: bare + extra / every for arm, every in EVERY.items()}}


def run(out: pathlib.Path, plan: Plan = PLAN,
        settings: Settings = SETTINGS) -> None:
  """Runs what is missing in the file."""
  book = Book(out, 'path_refresh', MEASURE, False,
              {**plan.settings(), **settings._asdict()})
  flops = step_flops(settings)
  x, y = map(jnp.asarray, digits.load().train)

  def group(arm: str, phase: str, rates: np.ndarray, seeds: np.ndarray) -> Any:
    del phase
    last, early = _compiled(arm, settings)(
        x, y, jnp.asarray(rates, jnp.float32), jnp.asarray(seeds, jnp.int32))
    return [(float(a), {'early': float(b) if np.isfinite(b) else None,
                        'flops_of_a_step': flops[arm]})
            for a, b in zip(last, early, strict=True)]

  search(book, plan, group)
