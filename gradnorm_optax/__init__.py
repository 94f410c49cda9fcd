"""Gradients of one scale in every layer, as optax transformations."""

from importlib import metadata as _metadata

from gradnorm_optax._explain import explain as explain
from gradnorm_optax.block_norm import bng as bng
from gradnorm_optax.block_norm import (
    normalize_by_block_norm as normalize_by_block_norm,
)
from gradnorm_optax.block_norm import (
    scale_by_block_param_norm as scale_by_block_param_norm,
)
from gradnorm_optax.blocks import Blocks as Blocks

__version__ = _metadata.version('gradnorm_optax')
