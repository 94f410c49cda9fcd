"""Sampling-based gradient regularization: batches that hold the long-term norm.

A recurrent net learns a dependency over h steps through the gradient that
reaches h steps back. These functions measure that gradient's norm, tell how one
step on each example of a pool would change it, and choose the mini-batch that
moves it back into a safe range.
"""

from gradnorm_optax.sgr.norms import (
    deltas as deltas,
    long_term_log_norm as long_term_log_norm,
)
from gradnorm_optax.sgr.safe_range import (
    SafeRange as SafeRange,
    learn_range as learn_range,
)
from gradnorm_optax.sgr.sampling import (
    RegularizeBySamplingAutoState as RegularizeBySamplingAutoState,
    RegularizeBySamplingState as RegularizeBySamplingState,
    regularize_by_sampling as regularize_by_sampling,
)
from gradnorm_optax.sgr.scores import (
    contributions as contributions,
    long_term_gradient as long_term_gradient,
)
from gradnorm_optax.sgr.selection import (
    Selection as Selection,
    select as select,
)
