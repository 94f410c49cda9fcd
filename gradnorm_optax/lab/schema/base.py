"""What every table of the configuration shares."""

from typing import Annotated, Any

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
Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


class Table(pydantic.BaseModel):
  """A table of the configuration; unknown keys are errors."""

  model_config = pydantic.ConfigDict(
      extra='forbid', frozen=True, allow_inf_nan=False,
      use_attribute_docstrings=True)  # what `gradnorm keys` says
