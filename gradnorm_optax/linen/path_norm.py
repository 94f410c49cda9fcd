"""Path norms for Linen: `apply_fn` and the module `PathNorm`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from gradnorm_optax.paths import norms


def apply_fn(
    module: nn.Module, /, *, method: Any = None, **kwargs: Any
) -> Callable[..., Any]:
  """Makes `apply_fn(params, x)` of a Linen module, for the path functions.

  Args:
    module: The module, unbound.
    method: The method to call, as for `module.apply`.
    **kwargs: Keyword arguments of the call: what switches to inference, such as
      `train=False`.

  Returns:
    A function `(params, x, collections=None)`. `params` is
    `variables['params']`, or all variables; `collections` holds the others, as
    `{'batch_stats': ...}`: pass them as
    `update(..., apply_args=({'batch_stats': ...},))`.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> import flax.linen as nn
    >>> from gradnorm_optax.linen import apply_fn
    >>> from gradnorm_optax.paths import path_norm
    >>> net = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)])
    >>> params = net.init(jax.random.key(0), jnp.zeros((1, 3)))['params']
    >>> bool(path_norm(apply_fn(net), params, jnp.zeros((1, 3))) > 0)
    True
  """

  def apply(params: Any, x: Any, collections: Any = None) -> Any:
    whole = isinstance(params, Mapping) and 'params' in params
    variables = dict(params) if whole else {'params': params}
    variables.update(collections or {})
    return module.apply(variables, x, method=method, **kwargs)

  return apply


class PathNorm(nn.Module):
  r"""Divides a module by the path norm of its parameters.

  .. math:: y = \text{scale} \cdot \text{module}(x) / \phi_p(\text{params})

  For a positively homogeneous module (ReLU network) neither the outputs nor the
  path norm change when hidden units are rescaled. `scale` is a trainable scalar
  that starts at phi_p, so that wrapping changes nothing at the start. phi_p is
  computed for one example of the batch, and sown as `intermediates/path_norm`
  for logging or as a regularizer. Where it is zero, so is the output.

  Attributes:
    module: The network; its parameters lie under `module`.
    p: The exponent of the path norm, at least 1.
    path_kwargs: Keyword arguments of the module's call when its path norm is
      taken, such as `{'use_running_average': True}`.

  Raises:
    TypeError: `p` is no number, or a parameter not real floating-point.
    ValueError: `p` is below 1 or not finite.

  Examples:
    >>> import jax, jax.numpy as jnp
    >>> import flax.linen as nn
    >>> from gradnorm_optax.linen import PathNorm
    >>> net = PathNorm(nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)]))
    >>> variables = net.init(jax.random.key(0), jnp.ones((5, 3)))
    >>> sorted(variables['params'])
    ['module', 'scale']

  References:
    Neyshabur, Salakhutdinov, Srebro, `Path-SGD: Path-Normalized
    Optimization in Deep Neural Networks <https://arxiv.org/abs/1506.02617>`_,
    2015
  """

  module: nn.Module
  p: float = 2
  path_kwargs: Mapping[str, Any] | None = None

  @nn.compact
  def __call__(self, x: Any, *args: Any, **kwargs: Any) -> Any:
    """Calls the module and divides by its path norm."""
    out = self.module(x, *args, **kwargs)
    phi = self._path_norm(x, args, {**kwargs, **(self.path_kwargs or {})})
    self.sow('intermediates', 'path_norm', phi, reduce_fn=lambda _, new: new,
             init_fn=lambda: jnp.zeros_like(phi))
    scale = self.param('scale', lambda _: jax.lax.stop_gradient(phi))
    return jax.tree.map(lambda y: _rescaled(y, scale, phi), out)

  def _path_norm(self, x: Any, args: Any, kwargs: Any) -> jax.Array:
    variables = dict(self.module.variables)
    params = variables.pop('params')
    alone = self.module.clone(parent=None, name=None)

    def call(params: Any, x: Any) -> Any:
      return alone.apply({'params': params, **variables}, x, *args, **kwargs)

    return norms.path_norm(call, params, one_example(x), p=self.p)


def one_example(x: Any) -> Any:
  """Returns the shape of a batch of one, from a batch."""
  return jax.tree.map(
      lambda a: jax.ShapeDtypeStruct(
          (1, *a.shape[1:]) if a.ndim > 1 else a.shape, a.dtype
      ),
      x,
  )


def _rescaled(y: jax.Array, scale: jax.Array, phi: jax.Array) -> jax.Array:
  some = phi > 0
  safe = jnp.where(some, phi, jnp.ones_like(phi))
  factor = jnp.where(some, scale.astype(phi.dtype) / safe, jnp.zeros_like(phi))
  return y * factor.astype(y.dtype)
