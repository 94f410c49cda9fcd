"""CartPole-v1 as Gymnasium publishes it, in forty lines of JAX.

Written here because the packages that hold it in JAX pin old releases of JAX or
Gymnasium's interface, and because nothing else of them is needed.
"""

from typing import NamedTuple

import jax
from jax import numpy as jnp

GRAVITY, CART, POLE, HALF, FORCE, TAU = 9.8, 1.0, 0.1, 0.5, 10.0, 0.02
FAR, TILT = 2.4, 12 * 2 * jnp.pi / 360
MOST = 500  # steps of an episode


class World(NamedTuple):
  """Position, speed, angle, angular speed (4,), and the episode's steps."""

  physics: jax.Array
  age: jax.Array


def reset(key: jax.Array) -> World:
  """Starts an episode near upright rest."""
  return World(jax.random.uniform(key, (4,), minval=-0.05, maxval=0.05),
               jnp.zeros([], jnp.int32))


def step(world: World, action: jax.Array) -> tuple[World, jax.Array, jax.Array]:
  """Pushes the cart to the left (0) or the right (1) for 20 ms, Euler's way.

  Returns:
    The new state, whether the pole fell or the cart left (no value follows),
    and whether the episode ends, which it also does after 500 steps.
  """
  x, speed, angle, turning = world.physics
  force = jnp.where(action == 1, FORCE, -FORCE)
  cos, sin = jnp.cos(angle), jnp.sin(angle)
  mass, lever = CART + POLE, POLE * HALF
  push = (force + lever * turning**2 * sin) / mass
  bend = (GRAVITY * sin - cos * push) / (
      HALF * (4.0 / 3.0 - POLE * cos**2 / mass))
  drive = push - lever * bend * cos / mass
  physics = jnp.stack([x + TAU * speed, speed + TAU * drive,
                       angle + TAU * turning, turning + TAU * bend])
  fell = (jnp.abs(physics[0]) > FAR) | (jnp.abs(physics[2]) > TILT)
  age = world.age + 1
  return World(physics, age), fell, fell | (age >= MOST)
