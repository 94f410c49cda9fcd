"""Runs a traced program on lifted values: the sum over paths of any network.

`apply_fn(params, x)` is traced to a jaxpr, and the jaxpr is interpreted with
the kinds of value of `values.py` and one rule per primitive (`rules.py`). The
result is

  G(w~) = sum over input-output paths of prod_e w~_e,   w~ = |w|^p,

in one forward pass on one example, whatever the architecture.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
import numpy as np
from jax.extend import source_info_util

from gradnorm_optax.paths import _compat, meshes
from gradnorm_optax.paths.values import (
    Arithmetic,
    Const,
    Data,
    LiftError,
    Mask,
    Num,
    Value,
    Weight,
)

# Constants up to this size are computed while tracing, so that rules can read
# them; larger ones are left to the compiled program.
_CONCRETE_SIZE = 2**20
# Read the position on a mesh: never computable while tracing.
_POSITIONAL = frozenset({'axis_index', 'psum', 'all_gather', 'ppermute'})

_WAY_OUT = (
    'Path norms need networks that are positively homogeneous: ReLU-like '
    'activations, max and average pooling, constant or inference-mode '
    'normalization. Replace this part, leave it out of apply_fn, or, if it '
    'is such a function, register a rule for its primitive with '
    'gradnorm_optax.paths.register_rule'
)
_COLLECTIVE = frozenset((
    'shard_map psum psum_invariant pmax pmin all_gather all_to_all ppermute '
    'reduce_scatter axis_index'
).split())
_ALONE = (
    'Paths run through the whole network: let apply_fn be the network without '
    'shard_map and collectives, and call the path functions outside of '
    'shard_map, under jit'
)
_NO_RULE = (
    'If it is positively homogeneous in the input, register one with '
    'gradnorm_optax.paths.register_rule; else replace this part, or leave it '
    'out of apply_fn'
)


@dataclasses.dataclass(frozen=True)
class Lifter(Arithmetic):
  """Interprets programs on lifted values.

  Attributes:
    rules: One rule per primitive name: `rule(lifter, eqn, *values)`.
    merge_affine: Whether consecutive affine maps are folded first.
    by_lifted: Whether derivatives are taken with respect to the lifted
      parameters (and not through the parameters themselves).
    callers: The calls that are being followed, for messages.
  """

  rules: dict[str, Callable[..., Any]] = dataclasses.field(
      default_factory=dict
  )
  merge_affine: bool = False
  by_lifted: bool = False
  callers: list[Any] = dataclasses.field(default_factory=list)

  def run(
      self, jaxpr: Any, args: Sequence[Value], consts: Sequence[Any] = ()
  ) -> list[Value]:
    """Interprets a program; returns the values of its outputs."""
    program, own = _compat.parts(jaxpr)
    consts = [*own, *consts]
    env: dict[Any, Value] = {}
    env.update(zip(program.constvars, map(Const, consts)))
    env.update(zip(program.invars, args))

    def read(atom: Any) -> Value:
      if isinstance(atom, jex_core.Literal):
        return Const(atom.val)
      return env[atom]

    for eqn in program.eqns:
      outs = self._apply(eqn, [read(atom) for atom in eqn.invars])
      env.update(zip(eqn.outvars, outs))
    return [read(atom) for atom in program.outvars]

  def _apply(self, eqn: Any, args: list[Value]) -> list[Value]:
    """Applies one primitive."""
    name = eqn.primitive.name
    rule = self.rules.get(name)
    if rule is not None and getattr(rule, 'calls', False):
      return list(rule(self, eqn, *args))
    if all(isinstance(arg, Const) for arg in args):
      return self.evaluate(eqn, args)
    if not getattr(rule, 'keeps_bias', False):
      args = [self.flush(arg) for arg in args]
    out = NotImplemented if rule is None else rule(self, eqn, *args)
    if out is NotImplemented:
      if any(isinstance(arg, Data | Mask) for arg in args):
        raise self.error(eqn)
      # Some function of parameters alone: a number like any other constant.
      return self.evaluate(eqn, args)
    return list(out) if eqn.primitive.multiple_results else [out]

  def evaluate(self, eqn: Any, args: Sequence[Value]) -> list[Value]:
    """Applies a primitive to the plain values; the result is constant."""
    values = [arg.value for arg in args]  # type: ignore[union-attr]
    params = meshes.without_sharding(eqn.params)
    size = sum(math.prod(var.aval.shape) for var in eqn.outvars)
    if (
        size <= _CONCRETE_SIZE
        and eqn.primitive.name not in _POSITIONAL
        and not any(isinstance(value, jax.core.Tracer) for value in values)
    ):
      with jax.ensure_compile_time_eval():
        out = eqn.primitive.bind(*values, **params)
    else:
      out = eqn.primitive.bind(*values, **params)
    outs = out if eqn.primitive.multiple_results else [out]
    return [Const(value) for value in outs]

  def lifted(self, value: Value) -> Num:
    """Returns the lifted number of a constant, weight or data value."""
    if isinstance(value, Const):
      return self.lift(_known(value.value))
    if isinstance(value, Mask):
      raise TypeError('a mask has no lifted value')
    return self.flush(value).lifted  # type: ignore[union-attr]

  def flush(self, value: Value) -> Value:
    """Turns the pending bias of `merge_affine` into an edge."""
    if not isinstance(value, Data) or value.bias is None:
      return value
    return Data(
        self.linear(jnp.add, value.lifted, self.lift(value.bias)),
        origin=value.origin,
        multiple=value.multiple,
    )

  def result(self, eqn: Any, args: Sequence[Value], num: Num) -> Value:
    """Wraps a lifted result: data if any operand is data, else a weight."""
    if any(isinstance(arg, Data) for arg in args):
      return Data(num)
    (plain,) = self.evaluate(eqn, args)
    return Weight(plain.value, num)  # type: ignore[union-attr]

  def error(self, eqn: Any, why: str = '', mend: str = _WAY_OUT) -> LiftError:
    """Builds the error for a primitive: its name, its place, the way out."""
    name = eqn.primitive.name
    # Programs that JAX traced before carry no line of their own.
    chain = [caller.source_info for caller in (*self.callers, eqn)]
    lines = [source_info_util.summarize(info) for info in chain]
    where = next((line for line in lines[::-1] if line), 'an unknown line')
    names = [str(info.name_stack) for info in chain]
    module = '/'.join(name for name in names if name)
    place = f'{where}, in {module}' if module else where
    if not why and name not in HINTS and name not in self.rules:
      mend = _ALONE if name in _COLLECTIVE else _NO_RULE
      return LiftError(
          f'the path norm has no rule for primitive {name!r} at {place}. '
          f'{mend}.'
      )
    why = why or HINTS.get(name, 'not positively homogeneous in the input')
    return LiftError(
        f'the path norm is not defined for primitive {name!r} at {place}: '
        f'{why}. {mend}.'
    )


def _known(value: Any) -> Any:
  """Returns a small array that is at hand as NumPy's, others as they are."""
  if isinstance(value, jax.core.Tracer) or not isinstance(value, jax.Array):
    return value
  small = value.size <= _CONCRETE_SIZE and value.is_fully_addressable
  return np.asarray(value) if small else value


HINTS = {
    **dict.fromkeys(
        (
            'sin cos tan asin acos atan atan2 sinh cosh asinh acosh atanh pow '
            'log exp2 erf_inv lgamma digamma floor ceil round rem nextafter '
            'cbrt reduce_prod cumprod cumlogsumexp'
        ).split(),
        'not positively homogeneous in the input',
    ),
    'tanh': 'tanh is not positively homogeneous (a tanh network or RNN: '
    'use relu or a linear activation)',
    'erf': 'erf is not positively homogeneous (GELU: use relu)',
    'erfc': 'erfc is not positively homogeneous (GELU: use relu)',
    'logistic': 'the sigmoid is not positively homogeneous (sigmoid, SiLU, '
    'gates of LSTM or GRU: use relu)',
    'exp': 'exp of data is not positively homogeneous (softmax: let apply_fn '
    'return logits; softmax attention has no path norm)',
    'expm1': 'expm1 is not positively homogeneous (ELU, SELU, CELU: use relu)',
    'log1p': 'log1p is not positively homogeneous (softplus: use relu)',
    'integer_pow': 'a power of data is not positively homogeneous '
    '(LayerNorm, RMSNorm, BatchNorm in training mode, GELU)',
    'square': 'the square of data is not positively homogeneous (LayerNorm, '
    'RMSNorm, or BatchNorm in training mode: use_running_average=True)',
    'sqrt': 'a root of data is not positively homogeneous',
    'rsqrt': 'a root of data is not positively homogeneous (LayerNorm, '
    'RMSNorm, or BatchNorm in training mode: use_running_average=True)',
}


def path_sum(
    lifter: Lifter,
    program: Any,
    params: Any,
    lifted: Sequence[Num],
    x: Any,
    apply_args: tuple[Any, ...] = (),
    consts: Sequence[Any] = (),
) -> Num:
  """Returns G, the sum over all paths of `apply_fn(params, x, *apply_args)`.

  Args:
    lifter: The interpreter.
    program: The network, traced by `meshes.trace`.
    params: Its parameters.
    lifted: |w|^p for each leaf of `params`.
    x: The input; only shapes matter.
    apply_args: Further arguments of apply_fn, constants of the network.
    consts: The arrays that apply_fn captured.

  Returns:
    A scalar lifted number.

  Raises:
    LiftError: The network has a part without a path norm.
  """
  args: list[Value] = [
      Weight(value, num) for value, num in zip(jax.tree.leaves(params), lifted)
  ]
  zero = jnp.zeros([], lifter.dtype) if lifter.scaled else None
  args += [
      Data(Num(jnp.ones(leaf.shape, lifter.dtype), zero))
      for leaf in jax.tree.leaves(x)
  ]
  args += [Const(leaf) for leaf in jax.tree.leaves(apply_args)]
  nums = []
  for var, out in zip(program.outvars, lifter.run(program, args, consts)):
    if isinstance(out, Mask) or not jnp.issubdtype(
        var.aval.dtype, np.floating
    ):
      continue  # predictions and counts beside the outputs
    nums.append(lifter.linear(jnp.sum, lifter.lifted(out)))
  if not nums:
    raise LiftError('apply_fn has no real-valued output, so no path ends.')
  return lifter.linear(lambda *values: sum(values[1:], values[0]), *nums)
