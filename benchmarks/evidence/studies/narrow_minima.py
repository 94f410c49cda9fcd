"""Leaving narrow minima: the rule lr * sqrt(D) of SING, and five methods.

Source: Courtois et al. 2023 (arXiv 2305.15997), the section on escaping narrow
minima: with D nonzero blocks a step of the momentum-free iteration has the
length lr * sqrt(D), so it leaves any basin whose diameter is below that in one
step, however steep the basin is; a deeper net leaves at a smaller rate.

Here: a ball of diameter 0.1 around a minimum at 0, deep and steep, in a wide
bowl whose own minimum lies 5 away; D blocks of 4x4. Starts are drawn in the
ball. Two measures: the share that lies outside the ball after one step at a
constant rate, and after 300 steps with a rate that falls to 0 by a cosine.

Expected: of SING and BNG all starts are out after one step where
lr * sqrt(D) > diameter, at every D (the rule is sufficient: fewer do below);
of SGD that depends on the depth of the basin instead; AdamW, whose first step
has the length lr * sqrt(number of parameters), leaves at a rate 4 times smaller
(sqrt(16), the size of a block), which the paper does not discuss.

Nothing is tuned and no figure is a score: rates are given in units of
diameter / sqrt(D). Seconds of one core.
"""

import functools
import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax import lax, numpy as jnp

import gradnorm_optax as gn
from benchmarks.evidence.studies.book import Book
from benchmarks.evidence.studies.search import FRESH

BLOCKS = (1, 4, 16, 64)
ARMS = ('sgd', 'adamw', 'bng', 'sing_sgd', 'sing_adamw')
# lr * sqrt(D) / diameter; 1.02 is just above the rule's threshold.
REACH = (0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.02, 1.5,
         3.0, 10.0)
SEEDS = 10
LAYERS = gn.Blocks('leaf', stacked={'kernel': 0})  # each a block of its own


class Settings(NamedTuple):
  """The landscape and the runs on it."""

  diameter: float = 0.1
  depth: float = 1.0      # of the narrow basin
  away: float = 5.0       # of the wide minimum
  bend: float = 0.1       # of the wide bowl
  steps: int = 300
  starts: int = 32        # of each seed


SETTINGS = Settings()
MEASURE = ('share of starts outside the narrow basin after one step; extra:'
           ' after 300 steps with a falling rate')


def landscape(params: Any, settings: Settings) -> jax.Array:
  """A wide bowl, and a narrow basin at 0 whose edge is the ball's.

  The basin is depth * (1 - (r / radius)^2)^2 below the bowl inside of its
  radius and 0 outside: smooth, steep, and felt nowhere else.
  """
  square = optax.tree.norm(params, squared=True)
  along = params['kernel'][0, 0, 0]
  bowl = square - 2 * settings.away * along + settings.away**2
  inside = jnp.maximum(1.0 - square / (settings.diameter / 2) ** 2, 0.0)
  return settings.bend * bowl / 2 - settings.depth * inside**2


def optimizer(arm: str, rate: Any) -> optax.GradientTransformation:
  """The five methods; SING's momentum-free iteration is sing_sgd."""
  return {
      'sgd': lambda: optax.sgd(rate),
      'adamw': lambda: optax.adamw(rate, weight_decay=0.0),
      'bng': lambda: gn.bng(optax.sgd(rate), LAYERS),
      'sing_sgd': lambda: optax.chain(gn.standardize(LAYERS), optax.sgd(rate)),
      'sing_adamw': lambda: gn.sing(rate, blocks=LAYERS)}[arm]()


def start(key: jax.Array, blocks: int, settings: Settings) -> Any:
  """Draws a point in the ball, uniform along its radius."""
  where, far = jax.random.split(key)
  point = jax.random.normal(where, (blocks, 4, 4))
  radius = jax.random.uniform(far, minval=0.1, maxval=0.9)
  point = point / jnp.linalg.norm(point.ravel()) * radius
  return {'kernel': point * settings.diameter / 2}


def trial(arm: str, blocks: int, settings: Settings, rate: jax.Array,
          key: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Says whether a start is outside after one step, and after all."""
  def outside(params: Any) -> jax.Array:
    square = optax.tree.norm(params, squared=True)
    # Where a run diverged, it is out.
    return ~(square <= (settings.diameter / 2) ** 2)

  def walk(steps: int, schedule: Any) -> jax.Array:
    tx = optimizer(arm, schedule)

    def step(carry: Any, _: None) -> tuple[Any, None]:
      params, state = carry
      slope = jax.grad(landscape)(params, settings)
      updates, state = tx.update(slope, state, params)
      return (optax.apply_updates(params, updates), state), None

    params = start(key, blocks, settings)
    (params, _), _ = lax.scan(step, (params, tx.init(params)), length=steps)
    return outside(params)

  cosine = optax.cosine_decay_schedule(1.0, settings.steps)
  return walk(1, rate), walk(
      settings.steps, lambda count: rate * cosine(count))


@functools.cache
def _compiled(arm: str, blocks: int, settings: Settings) -> Any:
  one = functools.partial(trial, arm, blocks, settings)
  starts = jax.vmap(one, (None, 0))
  return jax.jit(jax.vmap(jax.vmap(starts, (None, 0)), (0, None)))


def run(out: pathlib.Path, settings: Settings = SETTINGS,
        blocks: tuple[int, ...] = BLOCKS, arms: tuple[str, ...] = ARMS,
        seeds: int = SEEDS) -> None:
  """Runs what is missing in the file: one trial for each seed's starts."""
  book = Book(out, 'narrow_minima', MEASURE, True, {
      'arms': list(arms), 'blocks': list(blocks), 'reach': list(REACH),
      'seeds': seeds, **settings._asdict()})
  fresh = range(FRESH, FRESH + seeds)
  keys = jax.vmap(lambda s: jax.random.split(
      jax.random.key(s), settings.starts))(jnp.arange(FRESH, FRESH + seeds))
  for arm in arms:
    for count in blocks:
      name = f'{arm}/{count}'
      rates = np.array(REACH) * settings.diameter / np.sqrt(count)
      if book.find('final', name, rates[-1], fresh[-1]):
        continue
      once, later = jax.tree.map(
          lambda a: np.asarray(a).mean(-1),
          _compiled(arm, count, settings)(
              jnp.asarray(rates, jnp.float32), keys))
      book.add({'arm': name, 'rate': float(rate), 'phase': 'final',
                'seed': seed, 'value': float(once[i, j]),
                'extra': {'reach': REACH[i], 'blocks': count,
                          'later': float(later[i, j])}}
               for i, rate in enumerate(rates) for j, seed in enumerate(fresh))
    print(f'narrow_minima: {arm} done', flush=True)
  book.finish()
