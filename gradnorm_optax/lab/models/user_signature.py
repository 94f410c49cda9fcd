"""How a user's model is called: with the examples and what else it takes."""

import inspect
from collections.abc import Callable, Iterable
from typing import Any

from gradnorm_optax.lab.support.errors import LabError

# What models call the mode in which they are trained, and its value there.
MODES = {'train': True, 'training': True, 'is_training': True,
         'deterministic': False, 'use_running_average': False}


def modes(call: Callable[..., Any]) -> tuple[str, ...]:
  """The arguments by which a model is told whether it is trained.

  >>> modes(lambda x, deterministic=True: x)
  ('deterministic',)
  """
  return tuple(name for name in inspect.signature(call).parameters
               if name in MODES)


def mode(names: Iterable[str], train: bool) -> dict[str, bool]:
  """The values of these arguments in training or in evaluation.

  >>> mode(['train'], True), mode(['deterministic'], True)
  ({'train': True}, {'deterministic': False})
  """
  return {name: MODES[name] == train for name in names}


def check(what: str, call: Callable[..., Any]) -> None:
  """Refuses a model that needs more than it is given.

  Args:
    what: The model, for messages.
    call: Its bound `__call__`.

  Raises:
    LabError: An argument without a default that the lab does not pass.
  """
  signature = inspect.signature(call)
  given = {name: None for name in (*MODES, 'lengths')
           if name in signature.parameters}
  try:
    signature.bind(None, **given)
  except TypeError as error:
    raise LabError(
        f'{what}: its __call__ is given the examples, first, and `train` and '
        f'`lengths` where it takes them: {error}') from error
