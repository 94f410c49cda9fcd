"""What is wrong with a table: all of it at once, each with its mend."""

import json
from typing import NamedTuple

from gradnorm_optax.lab.support.errors import MOST, LabError


class Fault(NamedTuple):
  """One thing that is wrong.

  Attributes:
    text: Where it is first, what it is, how often, and what may be done.
    mend: What of `[data]` would mend it, {key: value}; lists are joined.
  """

  text: str
  mend: dict[str, str | tuple[str, ...]] = {}


def refuse(name: str, faults: list[Fault]) -> None:
  """Raises them, if there are any: one in a line; last, what mends all.

  A lone fault and its mend are one line.

  Args:
    name: The table's; it begins the message and is left out of its lines.
    faults: What was found.
  """
  if not faults:
    return
  shown = [fault.text.removeprefix(f'{name}: ') for fault in faults[:MOST]]
  if len(faults) == 1:
    text = faults[0].text
    lines = [text if text.startswith(name) else f'{name}: {text}']
  else:
    lines = [f'{name}: {len(faults)} faults', *(f'  {text}' for text in shown)]
  if len(faults) > MOST:
    lines.append(f'  and {len(faults) - MOST} more')
  merged: dict[str, str | tuple[str, ...]] = {}
  for fault in faults:
    for key, value in fault.mend.items():
      before = merged.get(key, ())
      merged[key] = value if isinstance(value, str) else tuple(dict.fromkeys(
          (*(before if isinstance(before, tuple) else ()), *value)))
  between = '\n  ' if len(faults) > 1 else '; '
  told = '\n'.join(lines)
  if merged:
    told += f'{between}in [data], if that is what is meant: ' + ', '.join(
        f'{key} = {toml(value)}' for key, value in merged.items())
  raise LabError(told)


def toml(value: str | tuple[str, ...]) -> str:
  """A text or a list of texts as TOML.

  >>> toml(('-', 'k. A.'))
  '["-", "k. A."]'
  """
  return json.dumps(value, ensure_ascii=False)
