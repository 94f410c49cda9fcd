"""The fan-in axes that an array's name, shape and neighbours imply."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from gradnorm_optax._conventions import Convention, Rule

Sizes = tuple[int, ...]

# Convolutions have at most this many taps a side, as transformers have more
# layers, heads or features than that in at least one of two leading axes.
_TAPS = 16


_HEADED = (['query'], ['key'], ['value'])


class Axes(NamedTuple):
  """Places among an array's own axes (layer axes left out).

  Attributes:
    fan_in: () for a vector, None where nothing tells.
    stack: Axes that are a stack inside the layer.
    doubt: Why the fan-in is unknown, or why a vector may be several.
    layers: Whether a layer axis nobody named may be the reason.
  """

  fan_in: tuple[int, ...] | None
  stack: tuple[int, ...] = ()
  doubt: str = ''
  layers: bool = False


def infer(
    convention: Convention, path: str, sizes: Sizes,
    tree: Mapping[str, Sizes],
) -> Axes:
  """Returns what a convention says of an array.

  Args:
    convention: One of `CONVENTIONS`.
    path: Of the array.
    sizes: Of its own axes.
    tree: The own sizes of all arrays by path: some tell of their neighbours.
  """
  name = path.rpartition('/')[2]
  if name in convention.matrices and len(sizes) >= 2:
    return _matrix(convention, path, sizes, tree)
  rule = _by_rule(convention, path, sizes, tree)
  if rule is not None:
    return _read(rule.pattern)
  if name in convention.vectors:
    return _vector(convention, path, sizes, tree)
  if len(sizes) < 2:
    return Axes(())
  if convention.named(path):
    return Axes(None, doubt=f'rank {len(sizes)} is unusual for this name',
                layers=True)
  return Axes(None, doubt='its name says nothing of its axes')


def _by_rule(
    convention: Convention, path: str, sizes: Sizes,
    tree: Mapping[str, Sizes],
) -> Rule | None:
  """Returns the rule that counts; none where neighbours leave two."""
  found = []
  for rule in convention.named(path):
    if len(rule.pattern) != len(sizes):
      continue
    if rule.like is None:
      return found[0] if len(found) == 1 else None if found else rule
    other, axis = rule.like
    above = path.split('/')[:-len(rule.names)]
    beside = tree.get('/'.join((*above, other)))
    fan_in = math.prod(sizes[a] for a in _places(rule.pattern, 'i'))
    if beside and beside[axis] == fan_in:
      found.append(rule)
  return found[0] if len(found) == 1 else None


def _read(pattern: str) -> Axes:
  return Axes(_places(pattern, 'i'), _places(pattern, 's'))


def _places(pattern: str, letter: str) -> tuple[int, ...]:
  return tuple(n for n, found in enumerate(pattern) if found == letter)


def _matrix(
    convention: Convention, path: str, sizes: Sizes,
    tree: Mapping[str, Sizes],
) -> Axes:
  """Reads a matrix by its name, its bias and the shape of a convolution."""
  rule = _by_rule(convention, path, sizes, tree)
  pattern = rule.pattern if rule else None
  bias = tree.get(_sibling(path, convention.bias), ())
  if bias != _ends(convention, sizes, len(bias)):
    bias = _without_ones(bias)
  if rule is not None and _heads_first(path, sizes, tree):
    return Axes(None, doubt='it looks like (heads, in, head_dim)')
  if not bias or rule is not None and rule.sure:
    pattern = pattern or _convolution(convention, path, sizes)
    if pattern is not None:
      return _read(pattern)
    return Axes(None, layers=True, doubt=(
        f'rank {len(sizes)} may be a convolution, several heads or layers, and'
        ' no bias beside it tells'))
  if pattern and _agrees(pattern, sizes, bias):
    return _read(pattern)
  count = len(bias)
  layered = count > 1 and bias == (sizes[0], *sizes[-count + 1:]) and (
      len(sizes) > count)
  fits = count < len(sizes) and (
      bias == _ends(convention, sizes, count))
  if fits and pattern is None and not layered:
    return _read(_with_outputs(convention, len(sizes), count))
  if fits and layered:
    reason = f'beside a bias of shape {bias} it has heads, or layers'
  elif layered or count > 1:
    reason = f'beside a bias of shape {bias} it looks stacked'
  else:
    reason = f'its bias of shape {bias} is not of its {convention.outputs} axes'
  return Axes(None, doubt=reason, layers=layered or count > 1)


def _agrees(pattern: str, sizes: Sizes, bias: Sizes) -> bool:
  """Tells whether a matrix of this name may have this bias beside it.

  Inside `shard_map` sizes are a device's: a bias that is whole beside a kernel
  that is cut speaks against a name only where it fits other axes.
  """
  outputs = tuple(sizes[a] for a in _places(pattern, 'o'))
  if bias in (outputs, (math.prod(outputs),)):
    return True
  others = {sizes[a] for a in _places(pattern, 'i')} | {
      math.prod(sizes[-2:]), math.prod(sizes[:2])}
  return len(bias) == 1 and (len(sizes) == 2 or bias[0] not in others)


def _heads_first(path: str, sizes: Sizes, tree: Mapping[str, Sizes]) -> bool:
  """Tells whether the projection back says that the heads come first here."""
  *above, parent, name = ('', '', *path.split('/'))
  if parent not in ('query', 'key', 'value') or len(sizes) != 3:
    return False
  back = [tree.get('/'.join((*above, out, name)).lstrip('/'), ())
          for out in ('out', 'attention_output')]
  return any(found and sizes[0] != found[-1] == sizes[1] for found in back)


def _ends(convention: Convention, sizes: Sizes, count: int) -> Sizes:
  return (sizes[:count] if convention.outputs == 'first'
          else sizes[len(sizes) - count:])


def _with_outputs(convention: Convention, rank: int, count: int) -> str:
  pattern = 'i' * (rank - count) + 'o' * count
  return pattern[::-1] if convention.outputs == 'first' else pattern


def _convolution(
    convention: Convention, path: str, sizes: Sizes
) -> str | None:
  """Returns the pattern of a convolution's kernel, by its name or its taps."""
  parents = ['', *(p for p in path.split('/')[:-1] if not p.isdigit())]
  parent = parents[-1].lower()
  named = 'conv' in parent
  if 'transpose' in parent or 'deconv' in parent or sizes[-2] > 1 and (
      'depthwise' in parent or 'dw' in parent):
    return None  # libraries disagree where these have their outputs
  taps = sizes[2:] if convention.outputs == 'first' else sizes[:-2]
  # Only a window has equal, small sides; heads and layers would have to agree.
  square = len(taps) > 1 and max(taps) <= _TAPS and len(set(taps)) == 1
  attention = parent in ('query', 'key', 'value', 'out')
  # Of three taps the first is the largest in no video net, and the layer axis
  # of scanned convolutions whose bias is hidden.
  named = named and (len(taps) < 3 or taps[0] <= max(taps[1:]))
  if 1 <= len(taps) <= 3 and (named or square and not attention):
    return _with_outputs(convention, len(sizes), 1)
  return None


def _sibling(path: str, name: str) -> str:
  parent, slash, _ = path.rpartition('/')
  return parent + slash + name


def _vector(
    convention: Convention, path: str, sizes: Sizes,
    tree: Mapping[str, Sizes],
) -> Axes:
  """Reads a vector; one of two axes has to have a reason for them."""
  own, name = _without_ones(sizes), path.rpartition('/')[2]
  if len(own) < 2 or name.endswith('_g'):
    return Axes(())
  if name == convention.bias:
    hidden = not any(_sibling(path, m) in tree for m in convention.matrices)
    if hidden and len(own) == 2 and path.split('/')[-2:-1] in _HEADED:
      return Axes(())  # the kernel is masked, and the parent's name says enough
    for matrix in convention.matrices:
      found = tree.get(_sibling(path, matrix), ())
      if len(found) > len(own) and own == _ends(convention, found, len(own)):
        return Axes(())  # the biases of several heads
  return Axes((), doubt=f'a `{name}` of rank {len(own)} looks stacked',
              layers=True)


def _without_ones(sizes: Sizes) -> Sizes:
  return tuple(size for size in sizes if size != 1)
