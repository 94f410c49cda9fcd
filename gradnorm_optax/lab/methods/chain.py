"""From a method's table to an optax chain: what the lab runs, a user writes.

`build` puts the parts together in the order clip, normalize, optimizer and
wraps the chain.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import optax

from gradnorm_optax import paths, sgr
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import tap
from gradnorm_optax.lab.methods.registry import (
  NORMALIZERS,
  OPTIMIZERS,
  WRAPPERS,
  Context,
  Optimizer,
  Rate,
  inner_blocks,
)
from gradnorm_optax.lab.support import user_code
from gradnorm_optax.lab.support.errors import LabError

WITHIN = (-2.5, 1.0)  # a learned range of relative norms; see docs/sgr.md


class Built(NamedTuple):
  """A method ready to train.

  Attributes:
    tx: The optax transformation.
    wrap: Turns the model's parameters into what `tx` is given.
    unwrap: The reverse: the parameters to train.
    sampling: How the examples of a step are chosen; None for all of them.
    pascanu: The weight of Pascanu's regularizer, or None.
  """

  tx: optax.GradientTransformation
  wrap: Callable[[Any], Any]
  unwrap: Callable[[Any], Any]
  sampling: schema.Sampling | None = None
  pascanu: float | None = None

  def evaluated(self, params: Any, opt_state: Any) -> Any:
    """The model's parameters to evaluate and to keep: of a schedule-free
    optimizer the average of its steps, else those that are trained."""
    held = self.unwrap(params)
    free = next((node for node in jax.tree.leaves(
        opt_state, is_leaf=_is_free) if _is_free(node)), None)
    # Compiled, for arrays may lie on the devices of several processes.
    return held if free is None else jax.jit(
        optax.contrib.schedule_free_eval_params)(free, held)

  @property
  def chooses(self) -> bool:
    """Whether steps say which of their examples they were taken on."""
    return self.sampling is not None and self.pascanu is None

  @property
  def learns(self) -> bool:
    """Whether the state holds a range of Q that is learned."""
    return self.sampling is not None and self.sampling.learns

  def ends(self, opt_state: Any) -> tuple[Any, Any] | None:
    """Low and high as learned so far; None where they are known."""
    return (opt_state[0].low, opt_state[0].high) if self.learns else None

  def update(self, gradient: Any, opt_state: Any, params: Any,
             choice: Any) -> tuple[Any, Any]:
    """Updates and the new state; `choice` tells the Q of this step."""
    given = {'long_term_log_norm': choice.q} if self.learns else {}
    tx: Any = self.tx
    updates, state = tx.update(gradient, opt_state, params, **given)
    return updates, state


def _is_free(node: Any) -> bool:
  return isinstance(node, optax.contrib.ScheduleFreeState)


def build(method: schema.Method, learning_rate: Rate,
          context: Context = Context(), max_skips: int | None = None,
          tapped: bool = False) -> Built:
  """Builds the optax chain of a method's table.

  Args:
    method: The table.
    learning_rate: A number, a traced scalar or an optax schedule.
    context: What the method may know about the model.
    max_skips: So many gradients in a row that are not finite are left out, by
      `optax.apply_if_finite`; None for none.
    tapped: Whether the state also holds what reaches the moments, as
      `tap.read` finds it; the updates are the same.

  Returns:
    The chain. Under `lookahead` the optimizer's parameters are the pair of
    fast and slow weights; the fast ones are trained and evaluated, as the
    authors of SING do.

  >>> from gradnorm_optax.lab import schema
  >>> built = build(schema.Method(optimizer='adam', clip=1.0), 1e-3)
  >>> isinstance(built.tx, optax.GradientTransformation)
  True
  """
  if method.wrap is not None and method.optimizer == 'schedule_free_adamw':
    raise LabError('schedule_free_adamw has averages of the parameters, not of '
                   f'what wrap = {method.wrap!r} trains in their place')
  parts = [*_front(method, context), *([_tap(method, context)] * tapped),
           _optimizer(method, learning_rate, context)]
  tx = optax.chain(*parts) if len(parts) > 1 else parts[0]
  if method.wrap is not None:
    tx = WRAPPERS[method.wrap].make(tx, method, context)
  if max_skips is not None:  # optax's does not go around its own lookahead
    tx = optax.apply_if_finite(tx, max_skips)
  if method.lookahead is None:
    return Built(_learning(tx, method), lambda params: params,
                 lambda params: params, method.sampling, method.pascanu)
  tx = optax.lookahead(tx, method.lookahead, method.lookahead_alpha)
  return Built(_learning(tx, method), optax.LookaheadParams.init_synced,
               lambda params: params.fast, method.sampling, method.pascanu)


def _learning(tx: optax.GradientTransformation,
              method: schema.Method) -> optax.GradientTransformation:
  """Puts the range of Q in front of a chain, where it is learned."""
  sampling = method.sampling
  if sampling is None or not sampling.learns:
    return tx
  within = WITHIN if sampling.relative else (-math.inf, math.inf)
  return optax.chain(
      sgr.learn_range(sampling.low, sampling.high, within=within), tx)


def _front(method: schema.Method,
           context: Context) -> list[optax.GradientTransformation]:
  clip = [] if method.clip is None else [
      optax.clip_by_global_norm(method.clip)]
  return [*clip, *(NORMALIZERS[name].make(method, context)
                   for name in method.normalize)]


def _tap(method: schema.Method,
         context: Context) -> optax.GradientTransformation:
  """Makes the tap, behind a copy of what the optimizer does first."""
  row = OPTIMIZERS.get(method.optimizer)
  if row is None or row.head is None:
    return tap.tap()
  return tap.tap(row.head(**_options(method, row, context)))


def _optimizer(method: schema.Method, learning_rate: Rate,
               context: Context) -> optax.GradientTransformation:
  """Makes the optimizer itself, the user's own included."""
  row = OPTIMIZERS.get(method.optimizer)
  make = row.make if row else user_code.resolve(method.optimizer)
  options = _options(method, row, context) if row else dict(method.options)
  here = f'optimizer {method.optimizer!r} with options {dict(method.options)}'
  try:
    with contextlib.nullcontext() if row else user_code.telling(here):
      tx = make(learning_rate, **options)
  except (TypeError, ValueError) as error:
    raise LabError(f'{here}: {error}') from error
  if not (hasattr(tx, 'init') and hasattr(tx, 'update')):
    raise LabError(f'{method.optimizer!r} returned {type(tx).__name__}, not '
                   'an optax.GradientTransformation')
  return tx if row else _telling(tx, here)


def _telling(tx: optax.GradientTransformation,
             here: str) -> optax.GradientTransformation:
  """The user's own transformation, whose faults are one line."""
  inner = optax.with_extra_args_support(tx)

  def init(params: Any) -> Any:
    with user_code.telling(f'{here}, at init,'):
      return inner.init(params)

  def update(updates: Any, state: Any, params: Any = None,
             **extra: Any) -> Any:
    with user_code.telling(f'{here}, at an update,'):
      return inner.update(updates, state, params, **extra)

  return optax.GradientTransformationExtraArgs(init, update)


def _options(method: schema.Method, row: Optimizer,
             context: Context) -> dict[str, Any]:
  """What a row's functions are called with, the learning rate aside."""
  options = {**row.defaults, **method.options}
  if row.context:
    options['context'] = context
  if row.blocks:
    options.setdefault('blocks', inner_blocks(
        method, row.blocks, context, bool(method.normalize), row.lengths))
  return options


@contextlib.contextmanager
def refusing(method: schema.Method, context: Context,
             init: Callable[[int], Any], where: str) -> Iterator[None]:
  """Says in one line that a method refuses a model, where it does.

  What the model or the user's own optimizer raises is left as it is: its
  traceback shows where.

  Args:
    method: The table.
    context: What the method may know about the model.
    init: `init(seed)` draws parameters and other variables.
    where: What the line calls the method and the model.

  Raises:
    LabError: A step of the method alone fails, too.
  """
  try:
    yield
  except (TypeError, ValueError, NotImplementedError):
    told = refusal(method, context, init)
    if told is None:
      raise
    raise LabError(f'{where}: {told}') from None


def refusal(method: schema.Method, context: Context,
            init: Callable[[int], Any]) -> str | None:
  """Says in a line why a method refuses a model; None where it does not.

  Traces a step of the method alone; nothing is compiled. What the user's own
  optimizer raises is nobody's refusal.
  """
  if ':' in method.optimizer:
    return None

  def step(seed: int) -> Any:
    built = build(
        method.model_copy(update={'sampling': None}), 1e-3, context)
    params = init(seed)[0]
    held = built.wrap(params)
    return built.tx.update(params, built.tx.init(held), held)

  try:
    jax.eval_shape(step, 0)
  except (TypeError, ValueError, NotImplementedError, LabError) as error:
    told = str(error).partition('\n')[0]
    # Of a network without a path norm the reason; the mend stands before it.
    return told.partition('. ')[0] if isinstance(
        error, paths.LiftError) else told.removesuffix('.')
  return None
