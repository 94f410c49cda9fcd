"""The terminal that the command writes to."""

import os
import shlex
from collections.abc import Iterable
from typing import Any


def console() -> Any:
  """A console that is wide enough for the table where no terminal says."""
  from rich import console as rich
  screen = rich.Console(highlight=False, markup=False)  # names hold brackets
  if not screen.is_terminal and 'COLUMNS' not in os.environ:
    screen.width = 120
  return screen


def command(*words: str, **options: Any) -> str:
  """A command as a shell takes it; lists repeat an option, None leaves it out.

  >>> command('compare', 'my file.toml', set=['a=1', 'b=2'], minutes=None)
  "gradnorm compare 'my file.toml' --set a=1 --set b=2"
  """
  said = ['gradnorm', *words]
  for name, value in options.items():
    several = value if isinstance(value, Iterable) and not isinstance(
        value, str) else [value]
    said += [word for one in several if one is not None
             for word in (f'--{name}', f'{one:g}' if isinstance(one, float)
                          else str(one))]
  return shlex.join(said)
