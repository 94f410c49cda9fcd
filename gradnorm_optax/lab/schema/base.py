"""What every table of the configuration shares."""

from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import Field
from pydantic_core import PydanticCustomError


def complaint(message: str) -> PydanticCustomError:
  """Makes a validation error whose text reaches the user unchanged.

  Several mistakes are lines of it.
  """
  return PydanticCustomError('lab', '{message}', {'message': message})


def _no_boolean(value: Any) -> Any:
  """Refuses what pydantic would read as 1 and 0.

  Its strict integers would also refuse 1e4 and NumPy's.
  """
  if isinstance(value, bool):
    raise complaint('takes a number, not true or false')
  return value


Number = Annotated[float, pydantic.BeforeValidator(_no_boolean)]
Whole = Annotated[int, pydantic.BeforeValidator(_no_boolean)]
PositiveFloat = Annotated[Number, Field(gt=0.0)]
PositiveInt = Annotated[Whole, Field(gt=0)]
NonNegativeInt = Annotated[Whole, Field(ge=0)]
Share = Annotated[Number, Field(gt=0.0, lt=1.0)]


Value = TypeVar('Value')
# Told apart beforehand, so that one complaint is made of a wrong value.
OrAuto = Annotated[
    Annotated[Value, pydantic.Tag('')] | Annotated[
        Literal['auto'], pydantic.Tag('auto')],
    pydantic.Discriminator(lambda value: 'auto' if value == 'auto' else '')]


def _each_once(rates: tuple[float, ...]) -> tuple[float, ...]:
  twice = [rate for i, rate in enumerate(rates) if rate in rates[:i]]
  if twice:
    raise complaint(f'{twice[0]:g} is listed twice')
  return rates


Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1),
                  pydantic.AfterValidator(_each_once)]


class Table(pydantic.BaseModel):
  """A table of the configuration; unknown keys are errors."""

  model_config = pydantic.ConfigDict(
      extra='forbid', frozen=True, allow_inf_nan=False,
      use_attribute_docstrings=True)  # what `gradnorm keys` says

  def idle(self, key: str, where: str) -> None:
    """Refuses a key that is set and has no effect.

    Set is what differs from the default: a resolved configuration holds all
    defaults, and is read again.

    Args:
      key: The key's name.
      where: What would give it one.
    """
    if getattr(self, key) != type(self).model_fields[key].default:
      raise complaint(f'{key} has no effect here; it belongs to {where}')


class Searchable(Table):
  """A section that may have a `search`."""

  @pydantic.model_serializer(mode='wrap')
  def _without_search(self, handler: Any) -> Any:
    """Leaves out that nothing is searched: fingerprints hold these tables."""
    found = handler(self)
    if isinstance(found, dict) and found.get('search', 0) is None:
      del found['search']
    return found
