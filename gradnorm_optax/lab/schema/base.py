"""What every table of the configuration shares."""

from typing import Annotated, Any

import pydantic
from pydantic import Field, PositiveFloat
from pydantic_core import PydanticCustomError

from gradnorm_optax.lab.support.errors import nearest

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


def complaint(message: str) -> PydanticCustomError:
  """Makes a validation error whose text reaches the user unchanged."""
  return PydanticCustomError('lab', '{message}', {'message': message})


class Table(pydantic.BaseModel):
  """A table of the configuration; unknown keys are errors."""

  model_config = pydantic.ConfigDict(
      extra='forbid', frozen=True, allow_inf_nan=False)

  @pydantic.model_validator(mode='before')
  @classmethod
  def _known_keys(cls, values: Any) -> Any:
    for key in values if isinstance(values, dict) else ():
      if key not in cls.model_fields:
        raise complaint(f'unknown key {key!r}{nearest(key, cls.model_fields)}')
      held = values[key] if isinstance(values[key], list) else [values[key]]
      kind = str(cls.model_fields[key].annotation)
      if any(isinstance(one, bool) for one in held) and (
          'int' in kind or 'float' in kind):  # pydantic would read 1 and 0
        raise complaint(f'{key} takes numbers, not true or false')
    return values
