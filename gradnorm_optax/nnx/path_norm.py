"""Path norms for NNX: `apply_fn` and the module `PathNorm`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from gradnorm_optax.paths import norms


def apply_fn(model: nnx.Module, /, **kwargs: Any) -> Callable[..., Any]:
  """Makes `apply_fn(params, x)` of an NNX model, for the path functions.

  The model is taken apart once; it runs in inference mode (`model.eval()`: no
  dropout, running statistics) on a copy, so that nothing in it changes.

  Args:
    model: The model. Its variables other than `nnx.Param`, batch statistics
      among them, are those of this moment unless `rest` is passed.
    **kwargs: Keyword arguments of the call.

  Returns:
    A function `(params, x, rest=None)`; `params` is `nnx.state(model,
    nnx.Param)`, and `rest` may hold newer other variables:
    `update(..., apply_args=(nnx.state(model, nnx.BatchStat),))`.

  Examples:
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from gradnorm_optax.nnx import apply_fn
    >>> from gradnorm_optax.paths import path_norm
    >>> net = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    >>> params = nnx.state(net, nnx.Param)
    >>> bool(path_norm(apply_fn(net), params, jnp.zeros((1, 3))) > 0)
    True
  """
  split: Any = nnx.split(model, nnx.Param, ...)
  graphdef, _, held = split

  def apply(params: Any, x: Any, rest: Any = None) -> Any:
    fresh = nnx.merge(graphdef, params, held, copy=True)
    if rest is not None:
      nnx.update(fresh, rest)
    fresh.eval()
    return fresh(x, **kwargs)

  return apply


class PathNorm(nnx.Module):
  r"""Divides a module by the path norm of its parameters.

  .. math:: y = \text{scale} \cdot \text{module}(x) / \phi_p(\text{params})

  For a positively homogeneous module (ReLU network) neither the outputs nor the
  path norm change when hidden units are rescaled. phi_p is computed for one
  example of the batch; `path_norm(x)` returns it, for logging or as a
  regularizer. Where it is zero, so is the output.

  Attributes:
    module: The network.
    scale: A trainable scalar, `nnx.Param`.

  Raises:
    TypeError: `p` is no number, or a parameter not real floating-point.
    ValueError: `p` is below 1 or not finite.

  Examples:
    >>> import jax.numpy as jnp
    >>> from flax import nnx
    >>> from gradnorm_optax.nnx import PathNorm
    >>> x = jnp.ones((5, 3))
    >>> net = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    >>> bool(jnp.allclose(PathNorm(net, x)(x), net(x)))
    True

  References:
    Neyshabur, Salakhutdinov, Srebro, `Path-SGD: Path-Normalized
    Optimization in Deep Neural Networks <https://arxiv.org/abs/1506.02617>`_,
    2015
  """

  def __init__(
      self,
      module: nnx.Module,
      x: Any = None,
      *,
      p: float = 2,
      path_kwargs: Mapping[str, Any] | None = None,
  ):
    """Wraps a module.

    Args:
      module: The network.
      x: An input (a batch), or its shape. With it `scale` starts at phi_p, so
        that wrapping changes nothing at the start; without it, at 1.
      p: The exponent of the path norm, at least 1.
      path_kwargs: Keyword arguments of the module's call when its path norm is
        taken.
    """
    self.module = module
    self.p = p
    self.path_kwargs = dict(path_kwargs or {})
    start = jnp.ones([]) if x is None else self.path_norm(x)
    self.scale = nnx.Param(start)

  def path_norm(self, x: Any, **kwargs: Any) -> jax.Array:
    """Returns phi_p of the module for one example of the batch x."""
    split: Any = nnx.split(self.module, nnx.Param, ...)
    graphdef, params, rest = split
    kwargs = {**kwargs, **self.path_kwargs}

    def call(params: Any, x: Any) -> Any:
      fresh = nnx.merge(graphdef, params, rest, copy=True)
      fresh.eval()
      return fresh(x, **kwargs)

    one = jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(
            (1, *a.shape[1:]) if a.ndim > 1 else a.shape, a.dtype
        ),
        x,
    )
    return norms.path_norm(call, nnx.to_pure_dict(params), one, p=self.p)

  def __call__(self, x: Any, **kwargs: Any) -> Any:
    """Calls the module and divides by its path norm."""
    phi = self.path_norm(x, **kwargs)
    some = phi > 0
    safe = jnp.where(some, phi, jnp.ones_like(phi))
    scale = self.scale[...].astype(phi.dtype)
    factor = jnp.where(some, scale / safe, jnp.zeros_like(phi))
    return jax.tree.map(
        lambda y: y * factor.astype(y.dtype), self.module(x, **kwargs)
    )
