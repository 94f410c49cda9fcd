"""Does BNG generalize otherwise where the training loss is the same?

Source: Yu et al. 2017 (arXiv 1707.04822), section 4: normalized gradients not
only train faster, they give lower test errors in convolutional nets.

Asked here: the test accuracy at the step at which the training loss first
passes a level, so that who trains faster does not matter.

Expected: no difference. Arms of one net share starts and batches.

Size: digits, a ReLU net of three hidden layers of 64 and a convolutional net of
two layers of 8, 600 steps of 64 pictures; one second a trial, some four minutes
for all on two cores.
"""

import functools
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from jax import lax, numpy as jnp

import gradnorm_optax as gn
from benchmarks.evidence.studies import digits
from benchmarks.evidence.studies.book import Book
from benchmarks.evidence.studies.search import Plan, search

NETS = ('mlp', 'cnn')
METHODS = ('momentum', 'bng_momentum', 'adam', 'bng_adam')
PLAN = Plan(
    arms=tuple(f'{net}/{method}' for net in NETS for method in METHODS),
    rates=tuple(1e-4 * 10 ** (i / 2) for i in range(8)))


class Settings(NamedTuple):
  """What a trial is."""

  steps: int = 600
  every: int = 10         # steps between looks at the training loss
  batch: int = 64
  level: float = 0.05     # of the training loss


SETTINGS = Settings()
MEASURE = ('accuracy where the loss of all training pictures first passes 0.05;'
           ' on validation pictures to choose the rate, on test pictures then')


class Net(nn.Module):
  """A small ReLU net on pictures (B, 64)."""

  kind: str

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    if self.kind == 'cnn':
      x = x.reshape(-1, 8, 8, 1)
      for _ in range(2):
        x = nn.max_pool(nn.relu(nn.Conv(8, (3, 3))(x)), (2, 2), (2, 2))
      return nn.Dense(10)(x.reshape(len(x), -1))
    for _ in range(3):
      x = nn.relu(nn.Dense(64)(x))
    return nn.Dense(10)(x)


def optimizer(method: str, rate: Any) -> optax.GradientTransformation:
  """Momentum or Adam, after BNG by layer where its name says so."""
  inner = optax.adam(rate) if 'adam' in method else optax.sgd(rate, 0.9)
  return gn.bng(inner) if 'bng' in method else inner


def first(losses: jax.Array, scores: jax.Array,
          level: float) -> tuple[jax.Array, jax.Array]:
  """The score at the first loss below the level, and its place; else NaN."""
  below = losses <= level
  place = jnp.argmax(below)
  return jnp.where(below.any(), scores[place], jnp.nan), place


def trial(arm: str, settings: Settings, train: Any, judged: Any,
          rate: jax.Array, seed: jax.Array) -> tuple[jax.Array, ...]:
  """Trains; returns the accuracy at the level, the step, and the last loss."""
  kind, method = arm.split('/')
  net, tx = Net(kind), optimizer(method, rate)
  start, order = jax.random.split(jax.random.key(seed))

  def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(
        net.apply({'params': params}, x), y).mean()

  def step(carry: Any, at: jax.Array) -> tuple[Any, None]:
    params, state = carry
    rows = jax.random.randint(
        jax.random.fold_in(order, at), (settings.batch,), 0, len(train[1]))
    slope = jax.grad(loss)(params, *(a[rows] for a in train))
    updates, state = tx.update(slope, state, params)
    return (optax.apply_updates(params, updates), state), None

  def block(carry: Any, places: jax.Array) -> Any:
    carry, _ = lax.scan(step, carry, places)
    answers: Any = net.apply({'params': carry[0]}, judged[0])
    right = answers.argmax(-1) == judged[1]
    return carry, (loss(carry[0], *train), right.mean(dtype=jnp.float32))

  params = net.init(start, train[0][:1])['params']
  places = jnp.arange(settings.steps, dtype=jnp.int32)
  _, (losses, scores) = lax.scan(
      block, (params, tx.init(params)), places.reshape(-1, settings.every))
  score, place = first(losses, scores, settings.level)
  return score, (place + 1) * settings.every, losses[-1]


@functools.cache
def _compiled(arm: str, settings: Settings) -> Any:
  def all_of(train: Any, judged: Any, rates: Any, seeds: Any) -> Any:
    return lax.map(lambda pair: trial(arm, settings, train, judged, *pair),
                   (rates, seeds))
  return jax.jit(all_of)


def run(out: pathlib.Path, plan: Plan = PLAN,
        settings: Settings = SETTINGS) -> None:
  """Runs what is missing in the file."""
  book = Book(out, 'bng_equal_loss', MEASURE, True,
              {**plan.settings(), **settings._asdict()})
  found = jax.tree.map(jnp.asarray, digits.load())

  def group(arm: str, phase: str, rates: np.ndarray, seeds: np.ndarray) -> Any:
    done = _compiled(arm, settings)(
        found.train, found.validation if phase == 'tune' else found.test,
        jnp.asarray(rates, jnp.float32), jnp.asarray(seeds, jnp.int32))
    return [(float(score), {
        'step': int(step) if np.isfinite(score) else None,
        'train_loss': float(last) if np.isfinite(last) else None})
            for score, step, last in zip(*done, strict=True)]

  search(book, plan, group)
