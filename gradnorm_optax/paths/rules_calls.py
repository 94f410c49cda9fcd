"""Rules of what runs other programs: calls, branches, loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from gradnorm_optax.paths import _compat
from gradnorm_optax.paths.lift import Lifter
from gradnorm_optax.paths.values import Const, Data, Mask, Num, Value, Weight

# A loop longer than this is not unrolled while tracing.
_UNROLL = 4096


def _calls(rule: Callable[..., Any]) -> Callable[..., Any]:
  """Marks a rule that takes operands of any kind, constants included."""
  rule.calls = True  # type: ignore[attr-defined]
  return rule


@_calls
def call(lifter: Lifter, eqn: Any, *args: Value) -> list[Value]:
  """Runs the called program: jit, custom_jvp, custom_vjp, remat."""
  lifter.callers.append(eqn)
  outs = lifter.run(_compat.callee(eqn.params), args)
  lifter.callers.pop()
  return outs


@_calls
def through(lifter: Lifter, eqn: Any, *args: Value) -> list[Value]:
  """Leaves out what only says where arrays lie."""
  del lifter, eqn
  return list(args)


def branch(lifter: Lifter, eqn: Any, index: Value, *args: Value) -> Any:
  """Takes the branch of `cond` or `switch` whose index is known."""
  branches = eqn.params['branches']
  if not isinstance(index, Const) or isinstance(index.value, jax.core.Tracer):
    raise lifter.error(
        eqn,
        'which branch runs is not known while tracing',
        'Choose the branch in Python, or with jnp.where on a constant',
    )
  chosen = min(max(int(index.value), 0), len(branches) - 1)
  return lifter.run(branches[chosen], args)


def loop(lifter: Lifter, eqn: Any, *args: Value) -> Any:
  """Unrolls a `while` loop whose condition is known while tracing."""
  tests, bodies = eqn.params['cond_nconsts'], eqn.params['body_nconsts']
  test_args, body_args = args[:tests], args[tests : tests + bodies]
  carry = list(args[tests + bodies :])
  for _ in range(_UNROLL):
    (go,) = lifter.run(eqn.params['cond_jaxpr'], [*test_args, *carry])
    if not isinstance(go, Const) or isinstance(go.value, jax.core.Tracer):
      break
    if not bool(go.value):
      return carry
    carry = lifter.run(eqn.params['body_jaxpr'], [*body_args, *carry])
  raise lifter.error(
      eqn,
      'a while loop whose number of turns depends on the input, is not known '
      f'while tracing, or exceeds {_UNROLL}',
      'Use lax.scan or lax.fori_loop with a fixed number of turns',
  )


def scan(lifter: Lifter, eqn: Any, *args: Value) -> Any:
  """Scans the lifted body; carries become data as soon as data reach them."""
  args = tuple(lifter.flush(arg) for arg in args)
  n_consts, n_carry = _compat.scan_split(eqn.params)
  program = eqn.params['jaxpr']
  consts = args[:n_consts]
  carry = list(args[n_consts : n_consts + n_carry])
  xs = args[n_consts + n_carry :]
  avals = [var.aval for var in eqn.invars[n_consts : n_consts + n_carry]]

  def body(carry: Sequence[Value], slices: Sequence[Any]) -> list[Value]:
    scanned = [_slice(x, part) for x, part in zip(xs, slices)]
    opened = [_normal(lifter, value, fresh=True) for value in carry]
    outs = lifter.run(program, [*consts, *opened, *scanned])
    return [lifter.flush(out) for out in outs]

  stacked = [_stacked(x) for x in xs]
  first = jax.tree.map(
      lambda a: jax.ShapeDtypeStruct(a.shape[1:], a.dtype), stacked
  )
  for _ in range(3):  # Const -> Weight -> Data, and no further
    carry = [_typed(lifter, c, aval) for c, aval in zip(carry, avals)]
    kinds = _kinds(lambda c, x: body(c, x)[:n_carry], carry, first)
    raised = [_raise_to(lifter, c, kind) for c, kind in zip(carry, kinds)]
    if all(type(a) is type(b) for a, b in zip(raised, carry)):
      break
    carry = raised

  def step(carry: list[Value], slices: Any) -> tuple[Any, Any]:
    outs = body(carry, slices)
    kept = [
        _typed(lifter, _raise_to(lifter, out, type(old)), aval)
        for out, old, aval in zip(outs, carry, avals)
    ]
    return kept, [_normal(lifter, out) for out in outs[n_carry:]]

  final, ys = lax.scan(
      step,
      carry,
      stacked,
      length=eqn.params['length'],
      reverse=eqn.params['reverse'],
      unroll=eqn.params['unroll'],
  )
  opened = [_normal(lifter, value, fresh=True) for value in final]
  return opened + [_restack(lifter, y) for y in ys]


def _kinds(body: Callable[..., Any], carry: Any, slices: Any) -> list[type]:
  """Returns the kinds that the body gives its carry, without computing."""
  kinds: list[type] = []

  def probe(carry: Any, slices: Any) -> None:
    kinds.extend(type(value) for value in body(carry, slices))

  jax.eval_shape(probe, carry, slices)
  return kinds


def _raise_to(lifter: Lifter, value: Value, kind: type) -> Value:
  """Turns a value into one of a wider kind: constant, weight, data."""
  if kind is Data and isinstance(value, Const | Weight):
    return _normal(lifter, Data(lifter.lifted(value)))
  if kind is Weight and isinstance(value, Const):
    return Weight(value.value, lifter.lift(value.value))
  return value


def _typed(lifter: Lifter, value: Value, aval: Any) -> Value:
  """Gives a carried value the one type it keeps through the loop."""
  if isinstance(value, Const | Weight) and not jnp.issubdtype(
      aval.dtype, jax.dtypes.extended
  ):
    plain = lax.convert_element_type(jnp.asarray(value.value), aval.dtype)
    value = (
        Const(plain)
        if isinstance(value, Const)
        else Weight(plain, value.lifted)
    )
  return _normal(lifter, value)


def _normal(lifter: Lifter, value: Value, fresh: bool = False) -> Value:
  """Drops what a loop's carry cannot hold, or gives data a new origin."""
  if isinstance(value, Data):
    lifted = lifter.flush(value).lifted  # type: ignore[union-attr]
    return Data(lifted) if fresh else Data(lifted, origin=None)
  if isinstance(value, Mask):
    return Mask(value.homogeneous, truth=value.truth)
  return value


def _stacked(value: Value) -> Any:
  """Returns the arrays of a value that have the scanned axis."""
  if isinstance(value, Const):
    return (value.value,)
  if isinstance(value, Weight):
    return (value.value, value.lifted.value)
  return (value.lifted.value,) if isinstance(value, Data) else ()


def _slice(value: Value, arrays: Any) -> Value:
  """Builds one slice of a scanned value from the slices of its arrays."""
  if isinstance(value, Const):
    return Const(arrays[0])
  if isinstance(value, Weight):
    return Weight(arrays[0], Num(arrays[1], value.lifted.log2))
  if isinstance(value, Data):
    return Data(Num(arrays[0], value.lifted.log2))
  return value


def _restack(lifter: Lifter, value: Value) -> Value:
  """Brings the stacked output of a scan to one scale."""
  if isinstance(value, Const | Mask):
    return value
  num = lifter.restack(value.lifted.value, value.lifted.log2)
  return Data(num) if isinstance(value, Data) else Weight(value.value, num)


CALLS: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(
        (
            'jit pjit closed_call core_call call custom_jvp_call '
            'custom_vjp_call custom_vjp_call_jaxpr remat remat2 checkpoint '
            'custom_lin'
        ).split(),
        call,
    ),
    **dict.fromkeys(
        (
            'sharding_constraint layout_constraint reshard mesh_cast pvary'
        ).split(),
        through,
    ),
    'cond': branch,
    'while': loop,
    'scan': scan,
}
