"""From a method's table to an optax chain: what the lab runs, a user writes.

Every building block is one row of a small table; a new one is added by adding
its row. `build` puts them together in the order clip, normalize, optimizer and
wraps the chain.
"""

import importlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import optax

import gradnorm_optax as gn
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.errors import LabError, nearest

Rate = float | jax.Array | Callable[[Any], Any]


class Context(NamedTuple):
  """What a method may need to know about the model.

  Attributes:
    stacked: {glob: axis} of layers that the model scans over.
    apply_fn: `apply_fn(params, x)`, for methods that trace the model.
    example: One example, as `jax.ShapeDtypeStruct`.
  """

  stacked: Mapping[str, int] = {}
  apply_fn: Callable[..., Any] | None = None
  example: Any = None


class Optimizer(NamedTuple):
  """A row: what it is and how it is made from a learning rate.

  Attributes:
    summary: One line.
    make: Called with the learning rate and the options.
    defaults: Options that the row sets.
    bare: The optimizer of optax whose step it is measured against; None for
      optax's own, the baselines.
    context: Whether `make` also takes `context=`, what it may know of the
      model.
  """

  summary: str
  make: Callable[..., optax.GradientTransformation]
  defaults: Mapping[str, Any] = {}
  bare: str | None = None
  context: bool = False


class Part(NamedTuple):
  """A row for a normalizer or a wrapper."""

  summary: str
  make: Callable[..., optax.GradientTransformation]


def _sing(learning_rate: Rate, *, context: Context,
          **options: Any) -> optax.GradientTransformation:
  blocks = gn.Blocks(by='leaf', stacked=dict(context.stacked))
  return gn.sing(learning_rate, **{'blocks': blocks, **options})


def _softplus_adamw(learning_rate: Rate, *, weight_decay: float = 1e-4,
                    **options: Any) -> optax.GradientTransformation:
  return optax.chain(
      gn.scale_by_softplus_adam(**options),
      optax.add_decayed_weights(weight_decay),
      optax.scale_by_learning_rate(learning_rate))


def _path_sgd(learning_rate: Rate, *, context: Context,
              **options: Any) -> optax.GradientTransformation:
  if context.apply_fn is None:
    raise LabError('path_sgd needs a model to trace')
  return gn.path_sgd(
      learning_rate, context.apply_fn, context.example, **options)


OPTIMIZERS: dict[str, Optimizer] = {
    'sgd': Optimizer('plain gradient descent', optax.sgd),
    'momentum': Optimizer(
        'SGD with momentum 0.9', optax.sgd, {'momentum': 0.9}),
    'adam': Optimizer('Adam', optax.adam),
    'adamw': Optimizer('Adam with decoupled weight decay', optax.adamw),
    'adagrad': Optimizer('AdaGrad', optax.adagrad),
    'rmsprop': Optimizer('RMSProp', optax.rmsprop),
    'lion': Optimizer('Lion, the sign of a momentum', optax.lion),
    'softplus_adamw': Optimizer(
        'AdamW whose denominator is a softplus, as SING\'s authors release it',
        _softplus_adamw, bare='adamw'),
    'sing': Optimizer(
        'SING: standardized gradients, AdamW, decay on matrices alone', _sing,
        bare='adamw', context=True),
    'path_sgd': Optimizer(
        'Path-SGD: steepest descent for the path norm of a ReLU net',
        _path_sgd, bare='sgd', context=True),
}


def _blocks(method: schema.Method, default: str, context: Context) -> Any:
  """Makes the `gn.Blocks` of a method, the model's stacks included."""
  given = method.blocks
  if given is None or isinstance(given, str):
    return gn.Blocks(by=given or default, stacked=dict(context.stacked))
  stacked = {**context.stacked, **given.stacked}
  return gn.Blocks(by=given.by, stacked=stacked, fan_in=dict(given.fan_in),
                   skip=given.skip)


def _bng(method: schema.Method,
         context: Context) -> optax.GradientTransformation:
  blocks = _blocks(method, 'layer', context)
  unit = gn.normalize_by_block_norm(blocks)
  if method.ratio is None:
    return unit
  return optax.chain(
      unit, gn.scale_by_block_param_norm(blocks, ratio=method.ratio))


def _standardize(method: schema.Method,
                 context: Context) -> optax.GradientTransformation:
  return gn.standardize(_blocks(method, 'leaf', context))


def _centralize(method: schema.Method,
                context: Context) -> optax.GradientTransformation:
  return gn.centralize(_blocks(method, 'leaf', context))


def _weight_normalized(
    tx: optax.GradientTransformation, method: schema.Method,
    context: Context) -> optax.GradientTransformation:
  del method
  blocks = gn.Blocks(by='unit', stacked=dict(context.stacked))
  return gn.weight_normalized(tx, blocks=blocks)


def _path_scale(method: schema.Method,
                context: Context) -> optax.GradientTransformation:
  del method
  if context.apply_fn is None:
    raise LabError('path_scale needs a model to trace')
  return gn.normalize_by_path_scale(context.apply_fn, context.example)


NORMALIZERS: dict[str, Part] = {
    'path_scale': Part('Path-SGD\'s core: each gradient divided by its path '
                       'scale', _path_scale),
    'bng': Part('each layer\'s gradient divided by its norm; with `ratio`, '
                'times ratio x the norm of its weights', _bng),
    'sing': Part('SING\'s core: each array centralized, then divided by its '
                 'norm (without centralization: "bng" with blocks = "leaf")',
                 _standardize),
    'centralize': Part('the fan-in mean of each unit subtracted', _centralize),
}

WRAPPERS: dict[str, Part] = {
    'weight_normalized': Part(
        'trains length and direction of each unit\'s weights',
        _weight_normalized),
}


class Built(NamedTuple):
  """A method ready to train.

  Attributes:
    tx: The optax transformation.
    wrap: Turns the model's parameters into what `tx` is given.
    unwrap: The reverse: the parameters to train and to evaluate.
    sampling: How the examples of a step are chosen; None for all of them.
    pascanu: The weight of Pascanu's regularizer, or None.
  """

  tx: optax.GradientTransformation
  wrap: Callable[[Any], Any]
  unwrap: Callable[[Any], Any]
  sampling: schema.Sampling | None = None
  pascanu: float | None = None

  @property
  def chooses(self) -> bool:
    """Whether steps say which of their examples they were taken on."""
    return self.sampling is not None and self.pascanu is None


def build(method: schema.Method, learning_rate: Rate,
          context: Context = Context()) -> Built:
  """Builds the optax chain of a method's table.

  Args:
    method: The table.
    learning_rate: A number, a traced scalar or an optax schedule.
    context: What the method may know about the model.

  Returns:
    The chain. Under `lookahead` the optimizer's parameters are the pair of
    fast and slow weights; the fast ones are trained and evaluated, as the
    authors of SING do.

  >>> from gradnorm_optax.lab import schema
  >>> built = build(schema.Method(optimizer='adam', clip=1.0), 1e-3)
  >>> isinstance(built.tx, optax.GradientTransformation)
  True
  """
  parts = [*_front(method, context),
           _optimizer(method, learning_rate, context)]
  tx = optax.chain(*parts) if len(parts) > 1 else parts[0]
  if method.wrap is not None:
    tx = WRAPPERS[method.wrap].make(tx, method, context)
  if method.lookahead is None:
    return Built(tx, lambda params: params, lambda params: params,
                 method.sampling, method.pascanu)
  tx = optax.lookahead(tx, method.lookahead, method.lookahead_alpha)
  return Built(tx, optax.LookaheadParams.init_synced,
               lambda params: params.fast, method.sampling, method.pascanu)


def front(method: schema.Method,
          context: Context) -> optax.GradientTransformation:
  """What stands before the optimizer: clipping and normalization."""
  return optax.chain(optax.identity(), *_front(method, context))


def _front(method: schema.Method,
           context: Context) -> list[optax.GradientTransformation]:
  clip = [] if method.clip is None else [
      optax.clip_by_global_norm(method.clip)]
  return [*clip, *(NORMALIZERS[name].make(method, context)
                   for name in method.normalizers)]


def _optimizer(method: schema.Method, learning_rate: Rate,
               context: Context) -> optax.GradientTransformation:
  """Makes the optimizer itself, the user's own included."""
  row = OPTIMIZERS.get(method.optimizer)
  make = row.make if row else target(method.optimizer)
  options = {**(row.defaults if row else {}), **method.options}
  if row and row.context:
    options['context'] = context
  try:
    tx = make(learning_rate, **options)
  except (TypeError, ValueError) as error:
    raise LabError(f'optimizer {method.optimizer!r} with options '
                   f'{dict(method.options)}: {error}') from error
  if not (hasattr(tx, 'init') and hasattr(tx, 'update')):
    raise LabError(f'{method.optimizer!r} returned {type(tx).__name__}, not '
                   'an optax.GradientTransformation')
  return tx


def target(name: str) -> Callable[..., Any]:
  """Imports `package.module:function`, the user's own code."""
  module, _, function = name.partition(':')
  try:
    return getattr(importlib.import_module(module), function)
  except ImportError as error:
    raise LabError(f'{name!r}: cannot import {module!r} ({error})') from error
  except AttributeError as error:
    known = [key for key in vars(importlib.import_module(module))
             if not key.startswith('_')]
    raise LabError(f'{name!r}: {module!r} has no {function!r}'
                   f'{nearest(function, known)}') from error


def bare(method: schema.Method) -> schema.Method:
  """The method's optimizer with nothing around it, on as many examples."""
  row = OPTIMIZERS.get(method.optimizer)
  name, options = method.optimizer, method.options
  if row is not None and row.bare is not None:
    name, options = row.bare, {}
  sampling = method.sampling and schema.Sampling(
      rule='random', size=method.sampling.size)
  return schema.Method(optimizer=name, options=options, sampling=sampling)


def is_baseline(method: schema.Method) -> bool:
  """Whether a method is an optimizer of optax, alone or with clipping."""
  row = OPTIMIZERS.get(method.optimizer)
  return (row is not None and row.bare is None and not method.normalizers
          and method.wrap is None and method.lookahead is None
          and method.pascanu is None and (
              method.sampling is None or method.sampling.rule == 'random'))


def check(method: schema.Method) -> None:
  """Raises `LabError` unless every name in the table is known."""
  if ':' in method.optimizer:
    target(method.optimizer)
  elif method.optimizer not in OPTIMIZERS:
    raise LabError(f'unknown optimizer {method.optimizer!r}'
                   f'{nearest(method.optimizer, OPTIMIZERS)} (your own is '
                   'written "package.module:function")')
  for name in method.normalizers:
    if name not in NORMALIZERS:
      raise LabError(f'normalize: unknown method {name!r}'
                     f'{nearest(name, NORMALIZERS)}')
  if method.wrap is not None and method.wrap not in WRAPPERS:
    raise LabError(f'wrap: unknown method {method.wrap!r}'
                   f'{nearest(method.wrap, WRAPPERS)}')
  if method.ratio is not None and 'bng' not in method.normalizers:
    raise LabError('ratio belongs to normalize = "bng"')
  if method.blocks is not None and not method.normalizers:
    raise LabError('blocks without normalize has nothing to act on')
  traced = method.optimizer == 'path_sgd' or 'path_scale' in method.normalizers
  if not traced:  # traces a model, which is not yet there
    build(method, 1e-3)
