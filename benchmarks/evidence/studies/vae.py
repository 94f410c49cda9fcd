"""A variational autoencoder, with and without weight normalization.

Source: Salimans, Kingma 2016 (arXiv 1602.07868), section 5.2: a convolutional
variational autoencoder on MNIST trains faster and to a better bound with weight
normalization and its data-dependent start (Adamax).

Expected: weight normalization reaches a higher bound in equal steps.

Size: scikit-learn's digits, pixels above half set to one, encoder and decoder
of two hidden layers of 128, 8 latent variables, 1000 steps of 100 pictures: one
or two seconds a trial, some three minutes for all on two cores.
"""

import functools
import math
import pathlib
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
import optax
from jax import lax, numpy as jnp

import gradnorm_optax as gn
import gradnorm_optax.linen as gnn
from benchmarks.evidence.studies import digits
from benchmarks.evidence.studies.book import Book
from benchmarks.evidence.studies.search import Plan, search

PLAN = Plan(
    # The optimizer, alone, on (g, v), and on (g, v) from the data-dependent
    # start.
    arms=tuple(f'{optimizer}/{norm}' for optimizer in ('adamax', 'adam')
               for norm in ('plain', 'weight_norm', 'weight_norm_init')),
    rates=tuple(3e-4 * 10 ** (i / 2) for i in range(6)))


class Settings(NamedTuple):
  """What a trial is."""

  steps: int = 1000
  early: int = 200       # the bound is taken here too
  batch: int = 100
  width: int = 128
  latent: int = 8
  samples: int = 16      # of the latent variables, for each tested picture


SETTINGS = Settings()
MEASURE = 'evidence lower bound of a test picture after 1000 steps, nats'
OPTIMIZERS = {'adamax': optax.adamax, 'adam': optax.adam}


class Vae(nn.Module):
  """Gaussian encoder, Bernoulli decoder: (logits, mean, log variance)."""

  width: int
  latent: int
  normalized: bool

  @nn.compact
  def __call__(self, x: jax.Array, noise: jax.Array) -> Any:
    """Encodes x (B, 64), and decodes with `noise` (B, latent)."""
    for _ in range(2):
      x = nn.relu(self._dense(self.width)(x))
    mean, log_variance = jnp.split(self._dense(2 * self.latent)(x), 2, -1)
    x = mean + jnp.exp(log_variance / 2) * noise
    for _ in range(2):
      x = nn.relu(self._dense(self.width)(x))
    return self._dense(64)(x), mean, log_variance

  def _dense(self, features: int) -> Any:
    if not self.normalized:
      return nn.Dense(features)
    return gnn.WeightNorm(nn.Dense(
        features, kernel_init=nn.initializers.normal(0.05)))


def bound(logits: jax.Array, mean: jax.Array, log_variance: jax.Array,
          x: jax.Array) -> jax.Array:
  """The evidence lower bound of each picture, one sample of the latents."""
  likelihood = -optax.sigmoid_binary_cross_entropy(logits, x).sum(-1)
  divergence = (jnp.exp(log_variance) + mean**2 - 1.0 - log_variance).sum(-1)
  return likelihood - divergence / 2


def pictures(phase: str) -> tuple[np.ndarray, np.ndarray]:
  """Training pictures, and those that are judged: validation to tune."""
  found = digits.load()
  judged = found.validation if phase == 'tune' else found.test
  return tuple(  # type: ignore[return-value]
      (part[0] > 0.5).astype(np.float32) for part in (found.train, judged))


def trial(arm: str, settings: Settings, train: jax.Array, judged: jax.Array,
          rate: jax.Array, seed: jax.Array) -> tuple[jax.Array, ...]:
  """Trains; returns the judged bound at the end and early, and training's."""
  optimizer, norm = arm.split('/')
  net = Vae(settings.width, settings.latent, norm == 'weight_norm_init')
  tx: Any = OPTIMIZERS[optimizer](rate)
  if norm == 'weight_norm':
    tx = gn.weight_normalized(tx)
  start, order, last = jax.random.split(jax.random.key(seed), 3)

  def noise(key: jax.Array, count: int) -> jax.Array:
    return jax.random.normal(key, (count, settings.latent))

  first = noise(last, settings.batch)
  variables = net.init(start, train[:settings.batch], first)
  if net.normalized:
    variables = gnn.data_dependent_init(
        net, variables, train[:settings.batch], first)

  def loss(params: Any, x: jax.Array, e: jax.Array) -> jax.Array:
    made: Any = net.apply({'params': params}, x, e)
    out, mean, log_variance = made
    return -bound(out, mean, log_variance, x).mean()

  def step(carry: Any, at: jax.Array) -> Any:
    params, state = carry
    rows, latent = jax.random.split(jax.random.fold_in(order, at))
    x = train[jax.random.randint(rows, (settings.batch,), 0, len(train))]
    value, slope = jax.value_and_grad(loss)(
        params, x, noise(latent, settings.batch))
    updates, state = tx.update(slope, state, params)
    return (optax.apply_updates(params, updates), state), value

  def judge(params: Any) -> jax.Array:
    def one(key: jax.Array) -> jax.Array:
      return -loss(params, judged, noise(key, len(judged)))
    return lax.map(one, jax.random.split(last, settings.samples)).mean()

  carry = variables['params'], tx.init(variables['params'])
  places = jnp.arange(settings.steps, dtype=jnp.int32)
  carry, _ = lax.scan(step, carry, places[:settings.early])
  early = judge(carry[0])
  carry, values = lax.scan(step, carry, places[settings.early:])
  recent = values[-max(settings.steps // 20, 1):]
  return judge(carry[0]), early, -recent.mean()


@functools.cache
def _compiled(arm: str, settings: Settings) -> Any:
  return jax.jit(jax.vmap(functools.partial(trial, arm, settings),
                          (None, None, 0, 0)))


def run(out: pathlib.Path, plan: Plan = PLAN,
        settings: Settings = SETTINGS) -> None:
  """Runs what is missing in the file."""
  book = Book(out, 'vae', MEASURE, True,
              {**plan.settings(), **settings._asdict()})

  def group(arm: str, phase: str, rates: np.ndarray, seeds: np.ndarray) -> Any:
    found = _compiled(arm, settings)(
        *map(jnp.asarray, pictures(phase)), jnp.asarray(rates, jnp.float32),
        jnp.asarray(seeds, jnp.int32))
    return [(float(last), {'early': _plain(early), 'train': _plain(train)})
            for last, early, train in zip(*found, strict=True)]

  search(book, plan, group)


def _plain(value: Any) -> float | None:
  return round(float(value), 3) if math.isfinite(value) else None
