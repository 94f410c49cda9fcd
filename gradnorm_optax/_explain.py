"""A printable table of the blocks of a tree."""

import math
from typing import Any, NamedTuple

from gradnorm_optax import _tree
from gradnorm_optax._layout import LeafSpec, resolve


class Row(NamedTuple):
  """One array of the tree; `block` is '-' where it passes through."""

  path: str
  shape: tuple[int, ...]
  dtype: str
  block: str
  block_size: str
  fan_in: str
  stacked: str


class Explanation(str):
  """The table as text, and its `rows` as data. Notebooks show the text."""

  rows: tuple[Row, ...]

  def __repr__(self) -> str:
    return str(self)


_HEAD = ('path', 'shape', 'dtype', 'block', 'block size', 'fan-in axes',
         'stacked axis')


def explain(params: Any, blocks: Any = 'layer') -> Explanation:
  """Tells in a table which entries of a tree form which block.

  Args:
    params: Parameters or gradients, arrays or `jax.ShapeDtypeStruct`.
    blocks: As a transformation's `blocks=`: a `Blocks`, "leaf", "layer",
      "unit", "global" or a function.

  Returns:
    A string to print, with the columns path, shape, dtype, block, block size
    (number of blocks x entries of one, where a label holds several), fan-in
    axes ('?' where the name is unknown) and stacked axis; `.rows` holds the
    same as data. Leaves that pass through have block '-'.

  Raises:
    TypeError, ValueError: As the transformations do: blocks that do not fit.

  Examples:
    >>> import jax
    >>> params = {'kernel': jax.ShapeDtypeStruct((8, 4), 'float32'),
    ...           'bias': jax.ShapeDtypeStruct((4,), 'float32')}
    >>> print(explain({'Dense_0': params}))
    path            shape   dtype    block    block size  fan-in axes  stacked axis
    Dense_0/bias    (4,)    float32  Dense_0  36          -            -
    Dense_0/kernel  (8, 4)  float32  Dense_0  36          0            -
  """  # noqa: E501
  layout = resolve(blocks, params, 'explain')
  sizes = {
      label: sum(math.prod(layout.spec(i).shape) for i in members)
      for label, members in layout.groups.items()}
  rows = []
  for path, leaf, spec in zip(
      layout.all_paths, _tree.flatten(params)[0], layout.specs, strict=True):
    if spec is not None:
      rows.append(_row(spec, sizes[spec.label]))
    elif _tree.is_hole(leaf):
      rows.append(Row(path, (), type(leaf).__name__, '-', '-', '-', '-'))
    else:
      shape, dtype = _tree.shape_dtype(leaf, path)
      rows.append(Row(path, shape, str(dtype), '-', '-', '-', '-'))
  table = Explanation(_format([_HEAD, *rows]))
  table.rows = tuple(rows)
  return table


def _row(spec: LeafSpec, total: int) -> Row:
  count = math.prod(spec.block_shape)
  fan_in = '?' if spec.fan_in is None else _join(spec.fan_in)
  return Row(
      spec.path, spec.shape, str(spec.dtype), str(spec.label),
      f'{count} x {total // count}' if spec.kept else str(total), fan_in,
      _join(spec.stack))


def _join(axes: tuple[int, ...]) -> str:
  return ','.join(map(str, axes)) or '-'


def _format(rows: list[Any]) -> str:
  cells = [[str(cell) for cell in row] for row in rows]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = ['  '.join(c.ljust(w) for c, w in zip(row, widths, strict=True))
           for row in cells]
  return '\n'.join(line.rstrip() for line in lines)
