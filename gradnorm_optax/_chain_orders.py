"""Orders around a normalization, seen in what a chain makes of gradients."""

from collections.abc import Iterator

import numpy as np

from gradnorm_optax._findings import Finding, some
from gradnorm_optax._probes import (
    HIGH,
    HUGE,
    LOW,
    SMALL,
    USUAL,
    Leaves,
    Start,
    apart,
)

# Epsilons of normalizations show at LOW, rounding everywhere.
_SAME, _OTHER = 2e-3, 5e-2


def normalized_before_accumulation(start: Start) -> Iterator[Finding]:
  """A micro-batch's size is lost, and its direction is not."""
  if start.period < 2:
    return
  grads = start.chain.grads
  last = grads(2, USUAL)
  usual, low, high, other = (
      start.update(last, first) for first in (
          grads(3, USUAL), grads(3, LOW), grads(3, HIGH), grads(4, USUAL)))
  found = [path for path, u in usual.items()
           if apart(u, low[path]) < _SAME and apart(u, high[path]) < _SAME
           and apart(u, other[path]) > _OTHER]
  if found:
    yield Finding(
        f'each of {start.period} micro-batches is normalized before they are'
        ' added up: all of them count alike, and the sum is no gradient of the'
        ' batch', some(found),
        'normalize behind the accumulation: optax.MultiSteps(gn.bng(...), k),'
        ' with the whole chain inside.')


def clipped_around_normalization(
    start: Start, names: list[str]
) -> Iterator[Finding]:
  """A norm over several blocks, in front of a normalization or behind it."""
  name, grads = ' and '.join(names), start.chain.grads
  at = {norm: start.update(grads(2, norm))
        for norm in (LOW, SMALL, USUAL, HIGH)}
  free = [path for path, u in at[USUAL].items() if np.any(u) and all(
      apart(u, found[path]) < _SAME for found in at.values())]
  if not free:
    return  # what comes out depends on the gradient's size: nothing is undone
  huge = start.update(grads(2, HUGE))
  broken = [path for path in free
            if apart(at[USUAL][path], huge[path]) > _OTHER]
  if broken:
    yield Finding(
        'something in front of the normalization scales the gradient by its'
        ' norm, as clipping by the norm does, and the normalization takes that'
        ' scale away again', f'in front of {name}: {some(broken)}',
        'leave it out. What bounds a step is the learning rate; against single'
        ' large entries clip by value, optax.clip(...), in front.')
  coupled = _coupled(start, free, at[USUAL])
  if coupled:
    yield Finding(
        'something behind the normalization scales by a norm over several'
        ' blocks, as clipping by the global norm does; that norm is one of'
        ' normalized blocks, so this is a factor on the learning rate and no'
        ' guard', f'behind {name}: {coupled} moves more where the others have'
        ' no gradient',
        'leave it out and lower the learning rate by that factor.')


def _coupled(start: Start, free: list[str], usual: Leaves) -> str | None:
  """Returns an array whose step depends on whether others have a gradient.

  And on nothing else of them: where their size matters they share a block.
  """
  layers = list(dict.fromkeys(map(_layer, free)))
  for layer in (layers[:2] + layers[-2:]):
    inside = [path for path in free if _layer(path) == layer]
    larger, smaller, none = (
        max(apart(usual[path], found[path]) for path in inside)
        for found in (_others_times(start, layer, factor)
                      for factor in (2.0 ** 10, 2.0 ** -10, 0.0)))
    if max(larger, smaller) < 1e-4 and none > 1e-3:
      return inside[0]
  return None


def _others_times(start: Start, layer: str, factor: float) -> Leaves:
  return start.update(start.chain.grads(
      2, USUAL, lambda path: 1.0 if _layer(path) == layer else factor))


def _layer(path: str) -> str:
  return path.rpartition('/')[0] or path
