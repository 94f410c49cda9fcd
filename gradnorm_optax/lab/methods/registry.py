"""The parts that a method's table can name, each one row.

A new optimizer, normalizer or wrapper is added by adding its row.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import optax

import gradnorm_optax as gn
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.support.errors import LabError

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
    head: What it does to the gradient before its moments see it, made from the
      context and the options; None where they see what it is given.
  """

  summary: str
  make: Callable[..., optax.GradientTransformation]
  defaults: Mapping[str, Any] = {}
  bare: str | None = None
  context: bool = False
  head: Callable[..., optax.GradientTransformation] | None = None


class Part(NamedTuple):
  """A row for a normalizer or a wrapper.

  Attributes:
    summary: One line.
    make: Called with the method and the context; a wrapper's with the chain
      that it wraps before these.
    trees: {name: key} of the trees like the parameters that a wrapper hands to
      what it wraps; () where that is given one tree.
  """

  summary: str
  make: Callable[..., optax.GradientTransformation]
  trees: Mapping[str, str] = {}


def _sing(learning_rate: Rate, *, context: Context,
          **options: Any) -> optax.GradientTransformation:
  return gn.sing(
      learning_rate, **{'blocks': _leaves(context), **options})


def _sing_head(*, context: Context, blocks: Any = None,
               **options: Any) -> optax.GradientTransformation:
  del options  # they belong to the moments and to what follows them
  return gn.standardize(blocks or _leaves(context))


def _leaves(context: Context) -> gn.Blocks:
  return gn.Blocks(by='leaf', stacked=dict(context.stacked))


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


def _path_sgd_head(*, context: Context, p: float = 2,
                   **options: Any) -> optax.GradientTransformation:
  del options
  assert context.apply_fn is not None, '`make` refuses that'
  return gn.normalize_by_path_scale(context.apply_fn, context.example, p=p)


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
        bare='adamw', context=True, head=_sing_head),
    'path_sgd': Optimizer(
        'Path-SGD: steepest descent for the path norm of a ReLU net',
        _path_sgd, bare='sgd', context=True, head=_path_sgd_head),
}


def _blocks(method: schema.Method, default: Literal['leaf', 'layer'],
            context: Context) -> gn.Blocks:
  """Makes the `gn.Blocks` of a method, the model's stacks included."""
  given = method.blocks or schema.BlocksTable(by=default)
  return gn.Blocks(**{**dict(given),
                      'stacked': {**context.stacked, **given.stacked}})


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
        _weight_normalized, {'direction': 'v', 'length': 'g'}),
}
