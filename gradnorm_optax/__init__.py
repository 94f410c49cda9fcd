"""Gradients of one scale in every layer, as optax transformations."""

from importlib import metadata as _metadata

from gradnorm_optax import paths as paths, sgr as sgr
from gradnorm_optax._explain import explain as explain
from gradnorm_optax.block_norm import (
    bng as bng,
    normalize_by_block_norm as normalize_by_block_norm,
    scale_by_block_param_norm as scale_by_block_param_norm,
)
from gradnorm_optax.blocks import Blocks as Blocks
from gradnorm_optax.check_chain import check_chain as check_chain
from gradnorm_optax.muon import (
    muon_dimension_numbers as muon_dimension_numbers,
)
from gradnorm_optax.path_sgd import (
    normalize_by_path_scale as normalize_by_path_scale,
    path_sgd as path_sgd,
)
from gradnorm_optax.paths import (
    path_norm as path_norm,
    path_scale as path_scale,
)
from gradnorm_optax.sgr import (
    regularize_by_sampling as regularize_by_sampling,
)
from gradnorm_optax.sing import (
    centralize as centralize,
    sing as sing,
    standardize as standardize,
)
from gradnorm_optax.softplus_adam import (
    scale_by_softplus_adam as scale_by_softplus_adam,
)
from gradnorm_optax.telemetry import (
    block_means as block_means,
    block_norms as block_norms,
    block_ratios as block_ratios,
    record_block_norms as record_block_norms,
)
from gradnorm_optax.trackers import (
    send_telemetry as send_telemetry,
    telemetry_scalars as telemetry_scalars,
)
from gradnorm_optax.watch import (
    watch as watch,
    watch_report as watch_report,
)
from gradnorm_optax.weight_norm import weight_normalized as weight_normalized

__version__ = _metadata.version('gradnorm_optax')
