"""Flax linen modules; imported only on request."""

from gradnorm_optax.linen.data_dependent import (
    data_dependent_init as data_dependent_init,
)
from gradnorm_optax.linen.fold import fold as fold
from gradnorm_optax.linen.mean_only_batch_norm import (
    MeanOnlyBatchNorm as MeanOnlyBatchNorm,
)
from gradnorm_optax.linen.path_norm import (
    PathNorm as PathNorm,
    apply_fn as apply_fn,
)
from gradnorm_optax.linen.weight_norm import WeightNorm as WeightNorm
