"""The path norm of a network and the path scale of its parameters."""

from __future__ import annotations

import numbers
import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gradnorm_optax import _tree
from gradnorm_optax.paths import meshes
from gradnorm_optax.paths.lift import Lifter, path_sum
from gradnorm_optax.paths.register import rules
from gradnorm_optax.paths.values import Num


def path_norm(
    apply_fn: Callable[..., Any],
    params: Any,
    x: Any,
    *,
    p: float = 2,
    merge_affine: bool = False,
) -> jax.Array:
  r"""Returns the path norm of a network.

  Over all paths from an input unit, or the constant unit of biases, to an
  output,

  .. math:: \phi_p(w) = \Big( \sum_{\text{paths}} \prod_{e \in \text{path}}
            |w_e|^p \Big)^{1/p}

  (Eq. 4 of [1]), for any function built from layers linear in data, ReLU-like
  activations, pooling and inference-mode normalization. Every parameter and
  constant is an edge of its own, in the order in which the program applies
  them. It is computed with a power of two kept apart from each array: right
  wherever the result is in the range of its dtype, else inf (with a warning
  when called eagerly), never NaN. Differentiable in `params`, so it serves as a
  regularizer.

  An eager call compiles anew each time; wrap it in `jax.jit` to call it often.

  Args:
    apply_fn: The network, called as `apply_fn(params, x)`; see
      `gradnorm_optax.linen.apply_fn` and `gradnorm_optax.nnx.apply_fn`.
    params: Its parameters: any tree of floating arrays.
    x: One example, or a batch of one: an array, a `jax.ShapeDtypeStruct`, or a
      tree of them. Only shapes and dtypes matter. A larger batch multiplies the
      sum over paths: a warning.
    p: The exponent, at least 1.
    merge_affine: Whether consecutive affine maps of single units are folded
      first: a layer's bias and a batch norm after it become one scale and one
      bias. The code of [2] folds a batch norm so, but not the layer's bias
      before it; figures agree where there is none, as in ResNets.

  Returns:
    A scalar, float64 if some parameter is float64, else float32.

  Raises:
    TypeError: p, a parameter or x has a type that does not serve.
    ValueError: p is less than 1, or the network has a part without path norm
      (`gradnorm_optax.paths.LiftError`).

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> from gradnorm_optax.paths import path_norm
    >>> params = [jnp.array([[1., -2.], [3., .5]]), jnp.array([[2.], [-1.]])]
    >>> net = lambda w, x: jax.nn.relu(x @ w[0]) @ w[1]
    >>> print(f'{path_norm(net, params, jnp.zeros(2)) ** 2:.3f}')
    44.250

  References:
    [1] Neyshabur, Salakhutdinov, Srebro, `Path-SGD: Path-Normalized
    Optimization in Deep Neural Networks <https://arxiv.org/abs/1506.02617>`_,
    2015. [2] Gonon, Brisebarre, Riccietti, Gribonval, `A path-norm toolkit for
    modern networks <https://arxiv.org/abs/2310.01225>`_, 2023; its code,
    `pathnorm-pytorch <https://github.com/agonon/pathnorm-pytorch>`_
  """
  check_exponent(p)
  check_params(params)
  dtype = lifted_dtype(params)

  meshes.require_whole(params, 'path_norm: parameter')
  shapes = as_shapes(x)

  def norm(params: Any) -> jax.Array:
    program, consts = meshes.trace(apply_fn, params, shapes)

    def compute(params: Any, consts: list[Any]) -> jax.Array:
      lifter = Lifter(p, dtype, True, rules(), merge_affine=merge_affine)
      lifted = lifter.lift_all(jax.tree.leaves(params))
      total = path_sum(lifter, program, params, lifted, shapes, (), consts)
      return lifter.root(total)

    return meshes.computed_whole(compute, np.zeros([]), params, consts)

  warn_of_batch(apply_fn, params, shapes)
  if is_traced(params):
    return norm(params)
  phi = jax.jit(norm)(params)
  if not isinstance(phi, jax.core.Tracer) and np.isinf(phi):
    warnings.warn(
        f'the path norm (p={p}) exceeds the range of {np.dtype(dtype).name}, '
        'or a parameter is not finite: inf is returned. Use float64 '
        'parameters or a larger p.',
        RuntimeWarning,
        stacklevel=2,
    )
  return phi


def path_scale(
    apply_fn: Callable[..., Any], params: Any, x: Any, *, p: float = 2
) -> Any:
  r"""Returns the path scale of each parameter, Path-SGD's divisor.

  .. math:: \gamma_p(w, e) = \Big( \sum_{\text{paths} \ni e} \prod_{e' \ne e}
            |w_{e'}|^p \Big)^{2/p} = \Big( \frac{\partial G}
            {\partial |w_e|^p} \Big)^{2/p}

  (Eq. 7 of [1]), G being the p-th power of `path_norm`; a parameter that
  several edges share gets the sum over them (kappa(1) of [2]).

  Args:
    apply_fn: As for `path_norm`.
    params: As for `path_norm`.
    x: As for `path_norm`.
    p: The exponent, at least 1.

  Returns:
    A tree like `params`, float64 if some parameter is float64, else float32.
    An entry on no path with nonzero weights has the scale 0.

  Raises:
    TypeError: p, a parameter or x has a type that does not serve.
    ValueError: p is less than 1, or the network has a part without path norm.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> from gradnorm_optax.paths import path_scale
    >>> params = [jnp.array([[1., -2.], [3., .5]]), jnp.array([[2.], [-1.]])]
    >>> net = lambda w, x: jax.nn.relu(x @ w[0]) @ w[1]
    >>> for scale in path_scale(net, params, jnp.zeros(2)):
    ...   print(scale.tolist())
    [[4.0, 1.0], [4.0, 1.0]]
    [[10.0], [4.25]]

  References:
    [1] Neyshabur, Salakhutdinov, Srebro, `Path-SGD: Path-Normalized
    Optimization in Deep Neural Networks <https://arxiv.org/abs/1506.02617>`_,
    2015. [2] Neyshabur, Wu, Salakhutdinov, Srebro, `Path-Normalized
    Optimization of Recurrent Neural Networks with ReLU Activations
    <https://arxiv.org/abs/1605.07154>`_, 2016
  """
  check_exponent(p)
  check_params(params)
  meshes.require_whole(params, 'path_scale: parameter')
  shapes = as_shapes(x)
  warn_of_batch(apply_fn, params, shapes)
  if is_traced(params):
    return raw_path_scale(apply_fn, params, shapes, p)
  return jax.jit(lambda w: raw_path_scale(apply_fn, w, shapes, p))(params)


def raw_path_scale(
    apply_fn: Callable[..., Any],
    params: Any,
    x: Any,
    p: float,
    apply_args: tuple[Any, ...] = (),
) -> Any:
  """Computes `path_scale` without checks, to be called while tracing."""
  program, consts = meshes.trace(apply_fn, params, x, apply_args)
  dtype = lifted_dtype(params)

  def compute(params: Any, apply_args: Any, consts: list[Any]) -> Any:
    lifter = Lifter(p, dtype, False, rules(), by_lifted=True)
    params, apply_args = jax.lax.stop_gradient((params, apply_args))
    leaves, treedef = jax.tree.flatten(params)

    def total(lifted: list[jax.Array]) -> jax.Array:
      nums = [Num(value) for value in lifted]
      return path_sum(
          lifter, program, params, nums, x, apply_args, consts
      ).value

    slopes = jax.grad(total)([lifter.lift(leaf).value for leaf in leaves])
    if p != 2:
      slopes = [s * s if p == 1 else s ** (2 / p) for s in slopes]
    return jax.tree.unflatten(treedef, slopes)

  return meshes.computed_whole(compute, params, params, apply_args, consts)


def check_exponent(p: Any) -> None:
  """Raises unless p is a number of at least 1."""
  if isinstance(p, jax.core.Tracer):
    raise TypeError(
        'p is a traced value, but shapes the program; give it as a Python '
        "number. Under optax.inject_hyperparams add 'p' to static_args."
    )
  if not isinstance(p, numbers.Real | np.ndarray | jax.Array) or isinstance(
      p, bool
  ):
    raise TypeError(f'p must be a number, got {p!r}')
  if not 1 <= float(p) < float('inf'):
    raise ValueError(f'p must be a finite number of at least 1, got {p}')


def check_params(params: Any) -> None:
  """Raises a TypeError that names the first leaf that is not floating."""
  leaves, _ = _tree.flatten(params)
  for path, leaf in zip(_tree.paths(params), leaves, strict=True):
    if _tree.is_hole(leaf):
      continue
    _, dtype = _tree.shape_dtype(leaf, path)
    if not jnp.issubdtype(dtype, np.floating):
      raise TypeError(
          f'parameter {path!r} has dtype {dtype}; path norms '
          'need real floating-point parameters. Keep other arrays out of '
          'params, or exclude them with optax.masked.'
      )


def lifted_dtype(params: Any) -> Any:
  """Returns float64 if some leaf is float64, else float32."""
  leaves = jax.tree.leaves(params)
  wide = any(jnp.result_type(leaf) == np.float64 for leaf in leaves)
  return np.float64 if wide else np.float32


def as_shapes(x: Any) -> Any:
  """Returns the shapes and dtypes of x, checked to be real."""

  def shape(leaf: Any) -> jax.ShapeDtypeStruct:
    dtype = jax.dtypes.canonicalize_dtype(jnp.result_type(leaf))
    if not jnp.issubdtype(dtype, np.floating):
      raise TypeError(
          f'x has dtype {dtype}, but paths start at real-valued inputs. For '
          'token ids give the one-hot or the embedded input as x.'
      )
    return jax.ShapeDtypeStruct(np.shape(leaf), dtype)

  return jax.tree.map(shape, x)


def is_traced(tree: Any) -> bool:
  """Returns whether some leaf is a traced value."""
  return any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves(tree))


def warn_of_batch(
    apply_fn: Callable[..., Any],
    params: Any,
    x: Any,
    apply_args: tuple[Any, ...] = (),
) -> None:
  """Warns where x looks like a batch of more than one example."""
  sizes = {leaf.shape[0] for leaf in jax.tree.leaves(x) if leaf.ndim > 1}
  if not sizes - {1} or len(sizes) > 1:
    return
  (size,) = sizes
  program, _ = meshes.trace(apply_fn, params, x, apply_args)
  out = [var.aval.shape for var in program.outvars]
  if any(shape and shape[0] == size for shape in out):
    warnings.warn(
        f'x and the output of apply_fn have a leading axis of size {size}: as '
        f'a batch of examples it multiplies the sum over paths by {size}. Give '
        'one example, x[:1]; give one sequence as a batch of one.',
        UserWarning,
        stacklevel=3,
    )
