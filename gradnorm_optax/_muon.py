"""The axes of a tree, as `optax.contrib.muon` takes and gives them."""

from typing import Any

import jax
import optax

from gradnorm_optax import _tree

Numbers = optax.contrib.MuonDimensionNumbers


def axes(dimension_numbers: Any) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns {path: fan-in axes} and {path: output axes} of muon's table."""
  is_numbers = lambda node: isinstance(node, Numbers)  # noqa: E731
  if is_numbers(dimension_numbers):
    return ({'*': dimension_numbers.reduction_axis},
            {'*': dimension_numbers.output_axis})
  if callable(dimension_numbers):
    raise TypeError(
        'gn.Blocks.from_muon(dimension_numbers): a function of the parameters;'
        ' pass what it returns for yours.')
  stop = lambda node: _tree.is_hole(node) or is_numbers(node)  # noqa: E731
  found = jax.tree.leaves(dimension_numbers, is_leaf=stop)
  fan_in, units = {}, {}
  for path, entry in zip(
      _tree.paths(dimension_numbers, stop), found, strict=True):
    if _tree.is_hole(entry):
      continue
    if not is_numbers(entry):
      raise TypeError(
          f'gn.Blocks.from_muon(dimension_numbers): leaf {path!r} is'
          f' {entry!r}, not optax.contrib.MuonDimensionNumbers or None.')
    fan_in[path], units[path] = entry.reduction_axis, entry.output_axis
  return fan_in, units
