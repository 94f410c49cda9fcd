"""Gradients of one scale in every layer, as optax transformations."""

from importlib import metadata as _metadata

from gradnorm_optax._explain import explain as explain
from gradnorm_optax.blocks import Blocks as Blocks

__version__ = _metadata.version('gradnorm_optax')
