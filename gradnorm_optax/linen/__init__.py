"""Flax linen modules; imported only on request."""

from gradnorm_optax.linen.path_norm import PathNorm as PathNorm
from gradnorm_optax.linen.path_norm import apply_fn as apply_fn
