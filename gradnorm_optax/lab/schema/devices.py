"""`[run.mesh]` and `[run.sharding]`: one run on many devices."""

from typing import Annotated, Any

import pydantic

from gradnorm_optax.lab.schema.base import Table, Whole, complaint
from gradnorm_optax.lab.support.errors import nearest

AXES = ('data', 'fsdp', 'tensor')


def _size(value: int) -> int:
  if value < 1 and value != -1:
    raise complaint(f'takes a number of devices, or -1 for what is left, not '
                    f'{value}')
  return value


Size = Annotated[Whole, pydantic.AfterValidator(_size)]


class Mesh(Table):
  """The devices of a run, as a box; one of its sides may be -1: what is left.

  Batches are cut over data and fsdp together.
  """

  data: Size = 1
  """Copies of the model, each with a share of the batch."""
  fsdp: Size = 1
  """Parts of parameters and optimizer state, and shares of the batch."""
  tensor: Size = 1
  """Parts of parameters that `sharding` cuts over it."""

  @pydantic.model_validator(mode='after')
  def _one_rest(self) -> 'Mesh':
    if self.sizes().count(-1) > 1:
      raise complaint('only one of data, fsdp and tensor can be -1')
    return self

  def sizes(self) -> tuple[int, ...]:
    """The sides, in the order of `AXES`."""
    return self.data, self.fsdp, self.tensor

  def one(self) -> bool:
    """Whether nothing is spread."""
    return self.sizes() == (1, 1, 1)


def _axes(value: Any) -> tuple[tuple[str, ...], ...]:
  """What cuts each axis of an array, as tuples of mesh axes."""
  if not isinstance(value, list | tuple):
    raise complaint('takes a list with a mesh axis for each axis of the array,'
                    f' such as ["fsdp", "tensor"], not {value!r}')
  found = tuple(
      (one,) if isinstance(one, str) and one else tuple(one) for one in value)
  named = [name for one in found for name in one]
  for i, name in enumerate(named):
    if name not in AXES:
      raise complaint(f'unknown mesh axis {name!r}{nearest(name, AXES)}')
    if name in named[:i]:
      raise complaint(f'{name} can cut one axis only')
  return found


def _written(value: Any) -> list[Any]:
  return [one[0] if len(one) == 1 else list(one) or '' for one in value]


Cut = Annotated[
    tuple[tuple[str, ...], ...],
    pydantic.BeforeValidator(_axes), pydantic.PlainSerializer(_written)]
