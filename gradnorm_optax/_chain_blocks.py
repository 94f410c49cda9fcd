"""Blocks that what stands around a transformation cuts or joins.

Heard from the library's own transformations while the chain's `init` runs:
which blocks they were given, and on which tree.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import jax
import optax

from gradnorm_optax import _layout, _tree
from gradnorm_optax._findings import Finding, some
from gradnorm_optax.blocks import Blocks

NORMALIZERS = ('normalize_by_block_norm', 'sing', 'standardize')
_BY_BLOCK = (*NORMALIZERS, 'scale_by_block_param_norm')

Heard = list[tuple[Blocks, Any, str]]


@contextlib.contextmanager
def hearing() -> Iterator[Heard]:
  """Collects the blocks that are resolved inside."""
  calls: Heard = []
  token = _layout.heard.set(calls)
  try:
    yield calls
  finally:
    _layout.heard.reset(token)


def normalizers(heard: Heard) -> list[str]:
  """Returns the names of the normalizations that were heard."""
  return sorted({name for _, _, name in heard if name in NORMALIZERS})


def findings(
    heard: Heard, params: Any, frozen: set[str]
) -> Iterator[Finding]:
  """Yields one finding for each name whose blocks are cut, or flattened.

  Args:
    heard: While the chain's `init` ran.
    params: All of them.
    frozen: Paths of arrays that do not move; a block may do without them.
  """
  whole = _tree.by_path(params)
  told = set()
  for blocks, tree, name in heard:
    if name not in _BY_BLOCK or name in told:
      continue
    leaves = _tree.by_path(tree)
    alone = 'standardize' if name == 'sing' else name
    if _flat(leaves) and len(jax.tree.leaves(params)) > 1:
      told.add(name)
      yield Finding(
          f'{name} sees one long vector, so all arrays are one block',
          f'{name}, inside optax.flatten or the like, over'
          f' {len(jax.tree.leaves(params))} arrays',
          f'put it in front: optax.chain(gn.{alone}(...), optax.flatten(...)).')
    elif leaves.keys() == whole.keys() and (cut := _cut(
        blocks, leaves, params, frozen, name)):
      told.add(name)
      yield Finding(
          f'{name} normalizes parts of blocks, because a mask or partition'
          ' hides the rest', f'{name}: {some(cut)}',
          f'put gn.{alone}(...) in front of optax.masked or optax.partition, or'
          " give it blocks='leaf', which nothing cuts; Blocks(skip=...) leaves"
          ' arrays out on purpose.')


def _flat(leaves: dict[str, Any]) -> bool:
  return list(leaves) == [_tree.ROOT] and len(
      getattr(leaves[_tree.ROOT], 'shape', ())) == 1


def _cut(
    blocks: Blocks, leaves: dict[str, Any], params: Any, frozen: set[str],
    name: str,
) -> list[str]:
  """Returns 'block (without what is hidden)' of blocks seen in part."""
  hidden = {path for path, leaf in leaves.items()
            if isinstance(leaf, optax.MaskedNode)} - frozen
  if not hidden or blocks.by == 'global':
    return []
  found = []
  places, treedef = _tree.flatten(params)
  whole = treedef.unflatten(
      None if path in frozen else leaf
      for path, leaf in zip(_tree.paths(params), places, strict=True))
  layout = _layout.resolve(blocks, whole, name)
  for label, members in layout.groups.items():
    paths = [layout.spec(i).path for i in members]
    missing = [path for path in paths if path in hidden]
    if missing and len(missing) < len(paths):
      found.append(f'block {label!r} without {some(missing)}')
  return found
