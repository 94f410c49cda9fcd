"""Refuses a table of a method that cannot be built."""

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods.chain import build
from gradnorm_optax.lab.methods.registry import (
  NORMALIZERS,
  OPTIMIZERS,
  WRAPPERS,
)
from gradnorm_optax.lab.schema.recipes import RECIPES
from gradnorm_optax.lab.support import user_code
from gradnorm_optax.lab.support.errors import LabError, Mistakes, nearest


def check_all(config: schema.Config,
              origin: str = 'configuration') -> schema.Config:
  """Checks every method's table; returns the configuration.

  Raises:
    Mistakes: Of all methods; they name `origin`, as the file, and the method.
  """
  found = []
  for name, method in config.methods.items():
    try:
      check(method)
    except LabError as error:
      found.append(f'{origin}: [methods.{name}] {error}')
  if found:
    raise Mistakes(found)
  return config


def check(method: schema.Method) -> None:
  """Raises `LabError` unless every name in the table is known."""
  if ':' in method.optimizer:
    user_code.resolve(method.optimizer)
  elif method.optimizer not in OPTIMIZERS:
    raise LabError(f'unknown optimizer {method.optimizer!r}'
                   f'{nearest(method.optimizer, [*OPTIMIZERS, *RECIPES])} '
                   '(your own is '
                   'written "package.module:function")')
  for name in method.normalize:
    if name not in NORMALIZERS:
      raise LabError(f'normalize: unknown method {name!r}'
                     f'{nearest(name, NORMALIZERS)}')
  if method.wrap is not None and method.wrap not in WRAPPERS:
    raise LabError(f'wrap: unknown method {method.wrap!r}'
                   f'{nearest(method.wrap, WRAPPERS)}')
  if method.ratio is not None and 'bng' not in method.normalize:
    raise LabError('ratio belongs to normalize = "bng"')
  row = OPTIMIZERS.get(method.optimizer)
  if method.blocks is not None and not (
      method.normalize or method.wrap or row and row.blocks):
    named = ', '.join(f'"{name}"' for name in OPTIMIZERS
                      if OPTIMIZERS[name].blocks)
    raise LabError('blocks have nothing to act on without normalize, wrap or '
                   f'one of the optimizers {named}')
  if method.blocks and method.wrap and not method.normalize and (
      method.blocks.by not in (None, 'unit', 'leaf')):
    raise LabError(f'blocks: {method.wrap} takes units or arrays together, by '
                   f'= "unit" or "leaf", not {method.blocks.by!r}')
  traced = method.optimizer == 'path_sgd' or 'path_scale' in method.normalize
  if not traced:  # traces a model, which is not yet there
    build(method, 1e-3)
