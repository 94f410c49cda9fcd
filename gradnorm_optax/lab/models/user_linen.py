"""The user's own Linen model, called as the lab's are."""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from flax import errors, linen as nn

from gradnorm_optax.lab.models import user_signature
from gradnorm_optax.lab.support.errors import LabError

_STREAM = 'random'  # the collection that the streams' key lives in


class FromLinen(NamedTuple):
  """A Linen module, called with what its `__call__` takes.

  A module that takes `train`, or the same under another name of `calls.MODES`,
  may draw random numbers while it is trained (dropout): its streams start from
  a key in the collection 'random', which moves on at every step.
  """

  module: nn.Module
  modes: tuple[str, ...]

  @property
  def perturb_shape(self) -> Any:
    """The module's, if it lets its gradient through time be looked at."""
    return self.module.perturb_shape  # type: ignore[attr-defined]

  def init(self, key: jax.Array, x: jax.Array, train: bool = False,
           **options: Any) -> Any:
    """Draws the variables."""
    options |= user_signature.mode(self.modes, train)
    variables = self.module.init(key, x, **options)
    if not self.modes:
      return variables
    start = jax.random.fold_in(key, 1)
    return {**variables, _STREAM: {'key': jax.random.key_data(start)}}

  def apply(self, variables: Any, x: jax.Array, train: bool = False,
            mutable: Any = False, **options: Any) -> Any:
    """Calls the module."""
    options |= user_signature.mode(self.modes, train)
    variables = dict(variables)
    stream = variables.pop(_STREAM, None)
    with self._explained():
      if not train or stream is None or mutable is False:
        return self.module.apply(variables, x, mutable=mutable, **options)
      here, after = jax.random.split(jax.random.wrap_key_data(stream['key']))
      outputs, new = self.module.apply(
          variables, x, rngs=here,
          mutable=[name for name in mutable if name != _STREAM], **options)
    return outputs, {**new, _STREAM: {'key': jax.random.key_data(after)}}

  @contextlib.contextmanager
  def _explained(self) -> Iterator[None]:
    """Says what a module may do in training alone."""
    try:
      yield
    except (errors.InvalidRngError, errors.ModifyScopeVariableError) as error:
      does = 'draws random numbers' if isinstance(
          error, errors.InvalidRngError) else 'changes its variables'
      mend = f'let `{self.modes[0]}` decide' if self.modes else (
          'take `train` in its __call__ and let that decide')
      raise LabError(
          f'[models] {type(self.module).__name__} {does} in evaluation too '
          f'({str(error).partition(" (http")[0]}); {mend}') from error
