"""Value learning: DQN on CartPole, with and without weight normalization.

Source: Salimans, Kingma 2016 (arXiv 1602.07868), section 5.4: DQN on four Atari
games learns faster and better with weight normalization, which needs no
batches, and batch normalization does not work there.

Expected: weight normalization above plain at equal search; the paper's own net
and games are larger by four orders of magnitude.

Size: 15000 steps of two hidden layers of 64, one update of 64 transitions a
step: some seconds a trial, some four minutes for all on two cores.
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
import gradnorm_optax.linen as gnn
from benchmarks.evidence.studies import cartpole
from benchmarks.evidence.studies.book import Book
from benchmarks.evidence.studies.search import Plan, search

PLAN = Plan(
    # adam; the same on (g, v); the module with data-dependent start, and with
    # mean-only batch norm; and the usual batch-free baseline.
    arms=('plain', 'weight_norm', 'weight_norm_init', 'mean_only',
          'layer_norm'),
    rates=tuple(1e-4 * 10 ** (i / 2) for i in range(6)))


class Settings(NamedTuple):
  """What a trial is."""

  steps: int = 15_000
  fill: int = 500          # steps at random before the first update
  judged: int = 5_000      # last steps, in which returns count
  width: int = 64
  batch: int = 64
  discount: float = 0.99
  explore: int = 5_000     # steps in which exploration falls to its end
  least: float = 0.05
  sync: int = 250          # steps between copies to the target net


SETTINGS = Settings()
MEASURE = 'mean return of the episodes in the last 5000 of 15000 steps'


class Net(nn.Module):
  """Action values, by a net of two hidden layers normalized in some way."""

  width: int
  arm: str

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    for features in (self.width, self.width, 2):
      x = self._layer(x, features, train)
      x = x if features == 2 else nn.relu(x)
    return x

  def _layer(self, x: jax.Array, features: int, train: bool) -> jax.Array:
    if self.arm not in ('weight_norm_init', 'mean_only'):
      x = nn.Dense(features)(x)
      return nn.LayerNorm()(x) if (
          self.arm == 'layer_norm' and features != 2) else x
    mean_only = self.arm == 'mean_only'
    x = gnn.WeightNorm(nn.Dense(
        features, use_bias=not mean_only,
        kernel_init=nn.initializers.normal(0.05)))(x)
    return gnn.MeanOnlyBatchNorm(not train)(x) if mean_only else x


class Agent(NamedTuple):
  """All that a step changes."""

  variables: Any
  target: Any
  optimizer: Any
  world: cartpole.World
  memory: jax.Array  # (steps, 10): before, after, action, fell
  key: jax.Array


def _act(agent: Agent, action: jax.Array, place: jax.Array,
         key: jax.Array) -> tuple[Agent, jax.Array]:
  """Takes one step of the world and remembers it; says whether it ended."""
  after, fell, ends = cartpole.step(agent.world, action)
  row = jnp.concatenate([
      agent.world.physics, after.physics,
      jnp.stack([action.astype(jnp.float32), fell.astype(jnp.float32)])])
  memory = lax.dynamic_update_index_in_dim(agent.memory, row, place, 0)
  world = jax.tree.map(lambda new, old: jnp.where(ends, new, old),
                       cartpole.reset(key), after)
  return agent._replace(world=world, memory=memory), ends


def targets(values: jax.Array, fell: jax.Array, discount: float) -> jax.Array:
  """The reward of 1 a step, and what the best next action is worth."""
  return 1.0 + discount * (1.0 - fell) * values.max(-1)


def trial(arm: str, settings: Settings, rate: jax.Array,
          seed: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Trains an agent; returns the mean return and the episodes it is of."""
  net = Net(settings.width, arm)
  tx: Any = optax.adam(rate)
  if arm == 'weight_norm':
    tx = gn.weight_normalized(tx)
  start, key = jax.random.split(jax.random.key(seed))
  variables = net.init(start, jnp.zeros((1, 4)))
  agent = Agent(variables, variables, tx.init(variables['params']),
                cartpole.reset(key), jnp.zeros((settings.steps, 10)), key)

  def fill(agent: Agent, place: jax.Array) -> tuple[Agent, jax.Array]:
    key, choice, again = jax.random.split(agent.key, 3)
    action = jax.random.bernoulli(choice).astype(jnp.int32)
    return _act(agent._replace(key=key), action, place, again)

  def update(agent: Agent, rows: jax.Array) -> Agent:
    before, after, action, fell = (
        rows[:, :4], rows[:, 4:8], rows[:, 8].astype(jnp.int32), rows[:, 9])
    later: Any = net.apply(agent.target, after)
    goal = targets(later, fell, settings.discount)

    def loss(params: Any) -> Any:
      values, changed = net.apply(
          {**agent.variables, 'params': params}, before, True,
          mutable=['batch_stats'])
      picked = jnp.take_along_axis(values, action[:, None], 1)[:, 0]
      return optax.huber_loss(picked, goal).mean(), changed

    params = agent.variables['params']
    slope, changed = jax.grad(loss, has_aux=True)(params)
    updates, optimizer = tx.update(slope, agent.optimizer, params)
    return agent._replace(optimizer=optimizer, variables={
        **agent.variables, **changed,
        'params': optax.apply_updates(params, updates)})

  def learn(agent: Agent, place: jax.Array) -> tuple[Agent, jax.Array]:
    key, coin, choice, again, batch = jax.random.split(agent.key, 5)
    done = jnp.minimum(place / settings.explore, 1.0)
    values = net.apply(agent.variables, agent.world.physics[None])[0]
    action = jnp.where(
        jax.random.uniform(coin) < 1.0 - (1.0 - settings.least) * done,
        jax.random.bernoulli(choice).astype(jnp.int32),
        values.argmax().astype(jnp.int32))
    agent, ends = _act(agent._replace(key=key), action, place, again)
    rows = jax.random.randint(batch, (settings.batch,), 0, place + 1)
    agent = update(agent, agent.memory[rows])
    copy = place % settings.sync == 0
    return agent._replace(target=jax.tree.map(
        lambda new, old: jnp.where(copy, new, old), agent.variables,
        agent.target)), ends

  agent, _ = lax.scan(fill, agent, jnp.arange(settings.fill, dtype=jnp.int32))
  if arm in ('weight_norm_init', 'mean_only'):
    begun = gnn.data_dependent_init(
        net, agent.variables, agent.memory[:settings.fill, :4])
    agent = agent._replace(variables=begun, target=begun)
  _, ends = lax.scan(
      learn, agent,
      jnp.arange(settings.fill, settings.steps, dtype=jnp.int32))
  episodes = ends[-settings.judged:].sum()
  return settings.judged / jnp.maximum(episodes, 1), episodes


@functools.cache
def _compiled(arm: str, settings: Settings) -> Any:
  return jax.jit(jax.vmap(functools.partial(trial, arm, settings)))


def run(out: pathlib.Path, plan: Plan = PLAN,
        settings: Settings = SETTINGS) -> None:
  """Runs what is missing in the file."""
  book = Book(out, 'dqn', MEASURE, True,
              {**plan.settings(), **settings._asdict()})

  def group(arm: str, phase: str, rates: np.ndarray, seeds: np.ndarray) -> Any:
    del phase
    score, episodes = _compiled(arm, settings)(
        jnp.asarray(rates, jnp.float32), jnp.asarray(seeds, jnp.int32))
    return [(float(value), {'episodes': int(count)})
            for value, count in zip(score, episodes, strict=True)]

  search(book, plan, group)
