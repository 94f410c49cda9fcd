"""One update of all leaves, around the step of the inner optimizer."""

import math
from typing import Any, NamedTuple

import jax

from gradnorm_optax import _weight_norm_step as step, _weight_norm_sums as sums
from gradnorm_optax._layout import LeafSpec


class Start(NamedTuple):
  """Leaves before the step of inner, in the order of their specs."""

  specs: list[LeafSpec]
  p: list[jax.Array]
  scale: list[jax.Array]  # as given
  w: list[jax.Array]
  v: list[jax.Array]
  by_v: list[jax.Array]
  units: list[step.Units]
  axis_name: Any


class End(NamedTuple):
  """A leaf after it."""

  update: jax.Array
  weights: step.Weights | None
  scale: jax.Array


def start(
    specs: list[LeafSpec], p: list[jax.Array], grads: list[jax.Array],
    held: list[step.Weights | None], scale: list[jax.Array], axis_name: Any,
) -> Start:
  """Returns what inner is to see.

  Args:
    specs: Of the leaves to normalize.
    p: Parameters.
    grads: Of w.
    held: Float32 weights beside parameters of a coarser dtype.
    scale: g/||v|| by unit; the lengths where they are fixed.
    axis_name: Mesh axes over which leaves are sharded.
  """
  grads = [step.like(grad, x) for grad, x in zip(grads, p, strict=True)]
  found = sums.over_devices(
      [sums.read(x, grad, old and old.w, spec.reduced)
       for x, grad, old, spec in zip(p, grads, held, specs, strict=True)],
      specs, p, axis_name)
  units = [step.locate(part, s, old and old.size, x.dtype)
           for part, s, old, x in zip(found, scale, held, p, strict=True)]
  entered = [step.enter(*leaf)
             for leaf in zip(p, grads, held, units, strict=True)]
  w, v, by_v = ([leaf[k] for leaf in entered] for k in range(3))
  return Start(specs, p, scale, w, v, by_v, units, axis_name)


def finish(
    begun: Start, by_v: list[jax.Array], by_g: list[jax.Array] | None,
    dtypes: list[Any],
) -> list[End]:
  """Returns where the leaves end.

  Args:
    begun: What `start` returned.
    by_v: Steps of v.
    by_g: Steps of g, None where lengths are fixed.
    dtypes: Of the updates.
  """
  specs, p, axis_name = begun.specs, begun.p, begun.axis_name
  v: list[jax.Array] = []
  found: list[sums.Sums] = []
  before = None
  for w, units, move, spec in zip(
      begun.w, begun.units, by_v, specs, strict=True):
    inverse, large = units.inverse, axis_name is None and sums.is_large(w)
    if large and before is not None:
      inverse = sums.after(before, inverse)
    v.append(step.turn(w, inverse, move))
    found.append(sums.squares(v[-1], spec.reduced))
    if large:
      before = found[-1]['ww']
  found = sums.over_devices(found, specs, p, axis_name)
  arrive, given = (step.keep, begun.scale) if by_g is None else (
      step.compose, [step.like(x, w) for x, w in zip(by_g, p, strict=True)])
  arrivals = [
      arrive(part['ww'], units, x,
             math.prod(spec.shape[a] for a in spec.reduced), leaf.dtype)
      for part, units, x, spec, leaf in zip(
          found, begun.units, given, specs, p, strict=True)]
  ends = []
  for leaf, new, to, dtype in zip(p, v, arrivals, dtypes, strict=True):
    update, weights = step.arrive(leaf, new, to, dtype)
    ends.append(End(update, weights, to.factor))
  return ends
