"""Path norms of any JAX function, by interpreting its traced program.

A new primitive, or one for which the built-in rule does not serve, gets a rule
by `register_rule`; `Const`, `Weight`, `Data` and `Mask` are the values that
rules take and return.
"""

from gradnorm_optax.paths.norms import path_norm as path_norm
from gradnorm_optax.paths.norms import path_scale as path_scale
from gradnorm_optax.paths.register import register_rule as register_rule
from gradnorm_optax.paths.rules import bilinear as bilinear
from gradnorm_optax.paths.rules import identity as identity
from gradnorm_optax.paths.rules import structural as structural
from gradnorm_optax.paths.unbalance import rescale_units as rescale_units
from gradnorm_optax.paths.unbalance import unbalance as unbalance
from gradnorm_optax.paths.values import Const as Const
from gradnorm_optax.paths.values import Data as Data
from gradnorm_optax.paths.values import LiftError as LiftError
from gradnorm_optax.paths.values import Mask as Mask
from gradnorm_optax.paths.values import Num as Num
from gradnorm_optax.paths.values import Weight as Weight
