"""Reads the parameters of JAX's higher-order primitives, by JAX version."""

from __future__ import annotations

from typing import Any

# The name under which a call-like primitive keeps the program it calls.
_CALLEES = ('jaxpr', 'call_jaxpr', 'fun_jaxpr')


def parts(jaxpr: Any) -> tuple[Any, list[Any]]:
  """Returns the open program and its constants.

  Up to JAX 0.11 a program is a `Jaxpr` (open) or a `ClosedJaxpr`; from 0.12 on
  `scan`, `jit` and others hold one class that may have constants of its own.
  """
  consts = getattr(jaxpr, 'consts', ())
  return getattr(jaxpr, 'jaxpr', jaxpr), list(consts)


def callee(params: dict[str, Any]) -> Any:
  """Returns the program that a call-like primitive calls."""
  for name in _CALLEES:
    if name in params:
      return params[name]
  raise KeyError(f'none of {_CALLEES} among {sorted(params)}')


def scan_split(params: dict[str, Any]) -> tuple[int, int]:
  """Returns how many operands of a `scan` are constants, and how many carry.

  JAX 0.12 replaced `num_consts` and `num_carry` by the tree `ft_in` of
  (constants, carry, scanned).
  """
  if 'num_consts' in params:
    return params['num_consts'], params['num_carry']
  consts, carry, _ = params['ft_in'].unpack()
  return len(consts), len(carry)
