"""The fan-in axes that an array's name, shape and neighbours imply."""

import math
from collections.abc import Mapping
from typing import NamedTuple

from gradnorm_optax._conventions import Convention, Rule

Sizes = tuple[int, ...]

# A window has equal, odd sides up to this: transformers have more layers, heads
# or features than that in at least one of two leading axes.
_WINDOW = 15
_HEADED = ('query', 'key', 'value', 'out')


class Axes(NamedTuple):
  """Places among an array's own axes (layer axes left out).

  Attributes:
    fan_in: () for a vector, None where nothing tells.
    stack: Axes that are a stack inside the layer.
    doubt: Why the fan-in is unknown, or why a vector may be several.
    layers: Whether this looks like several layers.
    guessed: Whether only the shape of a window speaks for it.
  """

  fan_in: tuple[int, ...] | None
  stack: tuple[int, ...] = ()
  doubt: str = ''
  layers: bool = False
  guessed: bool = False


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
  found: list[Rule] = []
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
    return _without_bias(convention, path, sizes, tree, pattern)
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
  elif bias == sizes:
    return Axes((), doubt='beside a bias of its own shape it is a norm over'
                ' several axes, or stacked', layers=True)
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


def _without_bias(
    convention: Convention, path: str, sizes: Sizes,
    tree: Mapping[str, Sizes], pattern: str | None,
) -> Axes:
  """Reads a matrix beside which no bias tells."""
  parents = ['', *(p for p in path.split('/')[:-1] if not p.isdigit())]
  headed = parents[-1] in _HEADED
  if pattern is not None and (
      not headed or len(sizes) == 2 or convention.certain
      or _heads_agree(path, sizes, tree)):
    return _read(pattern)
  if convention.certain:
    return _read(_with_outputs(convention, len(sizes), 1))
  if headed:
    return Axes(None, layers=True, doubt=(
        f'rank {len(sizes)} may be heads or layers, and neither a bias nor the'
        ' projections beside it tell'))
  parent = parents[-1].lower()
  if 'transpose' in parent or 'deconv' in parent or sizes[-2] > 1 and (
      'depthwise' in parent or 'dw' in parent):
    return Axes(None, doubt='libraries disagree where such a layer has its'
                ' outputs, and no bias tells')
  if _is_window(convention, sizes, 'conv' in parent):
    return _read(_with_outputs(convention, len(sizes), 1))._replace(
        guessed=True)
  return Axes(None, doubt=(
      f'rank {len(sizes)} may be a convolution, several heads or layers, and'
      ' no bias beside it tells'))


def _is_window(convention: Convention, sizes: Sizes, named: bool) -> bool:
  """Tells whether an array has the shape of a convolution's kernel."""
  taps = sizes[2:] if convention.outputs == 'first' else sizes[:-2]
  if len(taps) == 1:
    return named
  square = len(set(taps)) == 1 and len(taps) <= 3
  return square and (named or taps[0] % 2 == 1 and taps[0] <= _WINDOW)


def _projections(
    path: str, tree: Mapping[str, Sizes]
) -> tuple[dict[str, Sizes], str]:
  """Returns the projections of an attention, and which of them this is."""
  *above, parent, name = ('', *path.split('/'))
  found = {other: tree.get('/'.join((*above, other, name)).lstrip('/'), ())
           for other in (*_HEADED, 'attention_output')}
  return found, parent


def _heads_first(path: str, sizes: Sizes, tree: Mapping[str, Sizes]) -> bool:
  """Tells whether the projection back says that the heads come first here."""
  found, parent = _projections(path, tree)
  if parent not in _HEADED[:3] or len(sizes) != 3:
    return False
  return any(back and sizes[0] != back[-1] == sizes[1]
             for back in (found['out'], found['attention_output']))


def _heads_agree(path: str, sizes: Sizes, tree: Mapping[str, Sizes]) -> bool:
  """Tells whether query and out have the same heads, and this has theirs."""
  found, parent = _projections(path, tree)
  query, out = found['query'], found['out']
  if len(query) != 3 or len(out) != 3 or query[1:] != out[:2]:
    return False
  return parent in ('query', 'out') or sizes[-1] in (query[-1], out[1])


def _ends(convention: Convention, sizes: Sizes, count: int) -> Sizes:
  return (sizes[:count] if convention.outputs == 'first'
          else sizes[len(sizes) - count:])


def _with_outputs(convention: Convention, rank: int, count: int) -> str:
  pattern = 'i' * (rank - count) + 'o' * count
  return pattern[::-1] if convention.outputs == 'first' else pattern


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
    if hidden and len(own) == 2 and path.split('/')[-2] in _HEADED[:3]:
      return Axes(())  # the kernel is masked, and the parent's name says enough
    for matrix in convention.matrices:
      found = tree.get(_sibling(path, matrix), ())
      if len(found) > len(own) and own == _ends(convention, found, len(own)):
        return Axes(())  # the biases of several heads
  return Axes((), doubt=f'a `{name}` of rank {len(own)} looks stacked',
              layers=True)


def _without_ones(sizes: Sizes) -> Sizes:
  return tuple(size for size in sizes if size != 1)
