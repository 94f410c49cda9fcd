"""What JSON can hold."""

import dataclasses
import math
from typing import Annotated, Any

import pydantic

# A figure that JSON holds as null where it is not finite, read back as it was.
OrNan = Annotated[float, pydantic.BeforeValidator(
    lambda value: math.nan if value is None else value)]
OrInf = Annotated[float, pydantic.BeforeValidator(
    lambda value: math.inf if value is None else value)]


def finite(value: Any, digits: int | None = None) -> float | None:
  """A figure that JSON can hold, rounded to so many decimals."""
  value = float(value)
  if not math.isfinite(value):
    return None
  return value if digits is None else round(value, digits)


def numbers(values: Any) -> list[float | None]:
  """Figures that JSON can hold."""
  return [finite(value, 3) for value in values]


def plain(value: Any) -> Any:
  """Turns a summary into what JSON can hold; NaN and inf become null."""
  if dataclasses.is_dataclass(value) and not isinstance(value, type):
    return {f.name: plain(getattr(value, f.name))
            for f in dataclasses.fields(value)}
  if isinstance(value, tuple) and hasattr(value, '_asdict'):
    return {k: plain(v) for k, v in value._asdict().items()}
  if isinstance(value, dict):
    return {str(k): plain(v) for k, v in value.items()}
  if isinstance(value, list | tuple):
    return [plain(v) for v in value]
  if isinstance(value, float) and not math.isfinite(value):
    return None
  return value
