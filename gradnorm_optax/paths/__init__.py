"""Path norms of any JAX function, by interpreting its traced program.

A new primitive, or one for which the built-in rule does not serve, gets a rule
by `register_rule`; `Const`, `Weight`, `Data` and `Mask` are the values that
rules take and return.
"""

from gradnorm_optax.paths.norms import (
    path_norm as path_norm,
    path_scale as path_scale,
)
from gradnorm_optax.paths.register import register_rule as register_rule
from gradnorm_optax.paths.rules import bilinear as bilinear
from gradnorm_optax.paths.rules_linear import (
    identity as identity,
    structural as structural,
)
from gradnorm_optax.paths.unbalance import (
    rescale_units as rescale_units,
    unbalance as unbalance,
)
from gradnorm_optax.paths.values import (
    Const as Const,
    Data as Data,
    LiftError as LiftError,
    Mask as Mask,
    Num as Num,
    Weight as Weight,
)
