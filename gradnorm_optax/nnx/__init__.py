"""Flax nnx modules; imported only on request."""

from gradnorm_optax.nnx.data_dependent import (
    data_dependent_init as data_dependent_init,
)
from gradnorm_optax.nnx.fold import fold as fold
from gradnorm_optax.nnx.mean_only_batch_norm import (
    MeanOnlyBatchNorm as MeanOnlyBatchNorm,
)
from gradnorm_optax.nnx.path_norm import (
    PathNorm as PathNorm,
    apply_fn as apply_fn,
)
from gradnorm_optax.nnx.weight_norm import WeightNorm as WeightNorm
