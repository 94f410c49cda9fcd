"""Flax nnx modules; imported only on request."""

from gradnorm_optax.nnx.path_norm import PathNorm as PathNorm
from gradnorm_optax.nnx.path_norm import apply_fn as apply_fn
