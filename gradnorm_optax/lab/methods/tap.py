"""What passes a place of a chain, kept in its state for those who look."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class Tapped(NamedTuple):
  """The last updates that passed; NaN before the first."""

  updates: Any


def tap(head: optax.GradientTransformation | None = None
        ) -> optax.GradientTransformationExtraArgs:
  """Keeps what passes and changes nothing.

  Args:
    head: What is kept went through this first; what goes on did not. It is
      built anew in each step, so it must need no state of its own.

  >>> tx = optax.chain(optax.scale(2.0), tap(), optax.scale(3.0))
  >>> updates, state = tx.update(jnp.ones(1), tx.init(jnp.ones(1)))
  >>> float(updates[0]), float(read(state)[0])
  (6.0, 2.0)
  """
  first = optax.with_extra_args_support(head or optax.identity())

  def init(params: Any) -> Tapped:
    return Tapped(jax.tree.map(
        lambda p: jnp.full_like(p, jnp.nan), params))

  def update(updates: Any, state: Tapped, params: Any = None,
             **extra_args: Any) -> tuple[Any, Tapped]:
    kept, _ = first.update(updates, first.init(params), params, **extra_args)
    return updates, Tapped(jax.tree.map(
        lambda new, old: new.astype(old.dtype), kept, state.updates))

  return optax.GradientTransformationExtraArgs(init, update)


def read(opt_state: Any) -> Any:
  """Finds what a tapped chain kept."""
  found, = (node for node in jax.tree.leaves(opt_state, is_leaf=_is_tapped)
            if _is_tapped(node))
  return found.updates


def filled(opt_state: Any, plain: Any) -> Any:
  """Puts the state of a chain without the tap into one with it.

  >>> sgd = optax.sgd(0.1, momentum=0.9)
  >>> plain, like = sgd.init(jnp.ones(1)), optax.chain(tap(), sgd)
  >>> plain = jax.tree.map(lambda x: x + 7, plain)
  >>> full = filled(like.init(jnp.zeros(1)), plain)
  >>> float(optax.tree.get(full, 'trace')[0])
  7.0
  """
  nodes, treedef = jax.tree.flatten(opt_state, is_leaf=_is_tapped)
  rest = iter(jax.tree.leaves(plain))
  full = [node if _is_tapped(node) else next(rest) for node in nodes]
  assert next(rest, None) is None, 'a state of another chain'
  return jax.tree.unflatten(treedef, full)


def _is_tapped(node: Any) -> bool:
  return isinstance(node, Tapped)
