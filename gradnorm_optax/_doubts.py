"""What is said where a tree leaves open what its axes are: never nothing."""

import warnings
from collections.abc import Sequence

from gradnorm_optax import _tree
from gradnorm_optax._places import Place
from gradnorm_optax.blocks import Blocks

_SHOWN = 4


def report(
    places: Sequence[Place], blocks: Blocks, name: str, fan_in: bool
) -> None:
  """Raises where axes must be known and are not; warns where they may matter.

  Args:
    places: The arrays of the tree that belong to a block.
    blocks: The user's.
    name: The transformation that asks.
    fan_in: Whether every array of rank >= 2 must have known fan-in axes.

  Raises:
    ValueError: One message for all arrays in doubt.
  """
  if fan_in or blocks.by == 'unit':
    doubtful = [place for place in places if place.doubt and (
        place.fan_in is None or not callable(blocks.by)
        and blocks.by != 'global')]
    if doubtful:
      raise ValueError(f'{name}: {_say(doubtful)}')
  elif blocks.by in ('layer', 'leaf'):
    stacked = [place for place in places if place.doubt and place.layers]
    if stacked:
      warnings.warn(f'{name}: {_say(stacked)}', stacklevel=2)
  if blocks.by == 'layer':
    _warn_of_names(places, name)


def _say(places: Sequence[Place]) -> str:
  unknown = [place for place in places if place.fan_in is None]
  first = (unknown or places)[0]
  said = '; '.join(
      f'leaf {place.path!r} of shape {place.shape} has no known output axis'
      f' ({place.doubt})' if place.fan_in is None else
      f'leaf {place.path!r} of shape {place.shape} may be several layers'
      f' ({place.doubt})' for place in places[:_SHOWN])
  more = len(places) - _SHOWN
  said += f'; and {more} more. ' if more > 0 else '. '
  mends = []
  if unknown:
    mends.append(
        f'gn.Blocks(units={{{first.path!r}: -1}}) if its last axis is the'
        ' output, fan_in={glob: axes} for the others')
  one = next((place for place in places if place.layers or (
      place.fan_in is None and len(place.shape) > 2)), None)
  if one is not None:
    mends.append(
        f'gn.Blocks(stacked={{{one.path!r}: axis}}) if it holds a layer axis'
        ' (() if none)')
  return (f'{said}Name it: {"; ".join(mends)}; or use the preset of your'
          ' library: gn.Blocks.haiku(), gn.Blocks.equinox(),'
          ' gn.Blocks.maxtext() and others.')


def _warn_of_names(places: Sequence[Place], name: str) -> None:
  """Warns where names hide what lies together, so that no layer is found."""
  if [place.path for place in places] == [_tree.ROOT]:
    if len(places[0].shape) == 1:
      warnings.warn(
          f'{name}: the tree is one vector at the root, which is one block. If'
          ' optax.flatten made it, put the block transformation in front:'
          ' optax.chain(transformation, optax.flatten(inner)). Say'
          " blocks='global' if one block is meant.", stacklevel=3)
    return
  parents: dict[str, str] = {}
  for place in places:
    last = place.path.rpartition('/')[2]
    sign = next((s for s in ("']['", '.') if s in last), None)
    if sign is None or last.rpartition(sign)[2].isdigit():
      continue
    parent = place.path[:-len(last)] + last.rpartition(sign)[0]
    other = parents.setdefault(parent, place.path)
    if other != place.path:
      warnings.warn(
          f'{name}: the names {other!r} and {place.path!r} look like paths'
          ' written in one key, so every array is a layer of its own. Nest the'
          " tree (flax.traverse_util.unflatten_dict(params, sep='.')) or group"
          f' it: gn.Blocks(lambda path, leaf: path.rpartition({sign!r})[0]).',
          stacklevel=3)
      return
