"""The parts that a method's table can name, each one row.

A new optimizer, normalizer or wrapper is added by adding its row.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import optax

import gradnorm_optax as gn
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.support.errors import LabError

By = Literal['leaf', 'layer', 'unit']
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
    blocks: What it takes together unless the method's `blocks` say it; it is
      given `blocks=`. None where it has none.
    lengths: Whether its blocks include the lengths that a wrapper trains.
    passes: What `make` hands options to that it does not name.
  """

  summary: str
  make: Callable[..., optax.GradientTransformation]
  defaults: Mapping[str, Any] = {}
  bare: str | None = None
  context: bool = False
  blocks: By | None = None
  head: Callable[..., optax.GradientTransformation] | None = None
  lengths: bool = True
  passes: tuple[Callable[..., Any], ...] = ()


class Part(NamedTuple):
  """A row for a normalizer or a wrapper.

  Attributes:
    summary: One line.
    make: Called with the method's table and the context.
    blocks: As an optimizer's.
    trees: {name: key} of the trees like the parameters that a wrapper hands to
      what it wraps; {} where that is given one tree.
  """

  summary: str
  make: Callable[..., optax.GradientTransformation]
  blocks: By | None = None
  trees: Mapping[str, str] = {}


def _sing_head(*, blocks: gn.Blocks,
               **options: Any) -> optax.GradientTransformation:
  del options  # they belong to the moments and to what follows them
  return gn.standardize(blocks)


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


def _muon(learning_rate: Rate, *, blocks: gn.Blocks,
          **options: Any) -> optax.GradientTransformation:
  def of(tree: Any) -> optax.GradientTransformationExtraArgs:
    return optax.contrib.muon(
        learning_rate, muon_weight_dimension_numbers=(
            gn.muon_dimension_numbers(tree, blocks)), **options)

  return optax.GradientTransformationExtraArgs(
      lambda params: of(params).init(params),
      lambda updates, state, params=None, **extra: of(updates).update(
          updates, state, params, **extra))


def _row_normalized_momentum(
    learning_rate: Rate, *, blocks: gn.Blocks, momentum: float = 0.95,
    nesterov: bool = False, weight_decay: float = 0.0,
) -> optax.GradientTransformation:
  return optax.chain(
      optax.trace(momentum, nesterov),
      gn.normalize_by_block_norm(blocks),
      optax.add_decayed_weights(weight_decay),
      optax.scale_by_learning_rate(learning_rate))


def _normalized_adam(
    learning_rate: Rate, *, blocks: gn.Blocks, weight_decay: float = 0.0,
    **options: Any) -> optax.GradientTransformation:
  def matrices(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.ndim > 1, tree)

  return optax.chain(
      optax.scale_by_adam(**options),
      optax.masked(gn.normalize_by_block_norm(blocks), matrices),
      optax.add_decayed_weights(weight_decay),
      optax.scale_by_learning_rate(learning_rate))


OPTIMIZERS: dict[str, Optimizer] = {
    'sgd': Optimizer('plain gradient descent', optax.sgd),
    'momentum': Optimizer(
        'SGD with momentum 0.9', optax.sgd, {'momentum': 0.9}),
    'adam': Optimizer('Adam', optax.adam),
    'adamw': Optimizer('Adam with decoupled weight decay', optax.adamw),
    'adagrad': Optimizer('AdaGrad', optax.adagrad),
    'rmsprop': Optimizer('RMSProp', optax.rmsprop),
    'lion': Optimizer('Lion, the sign of a momentum', optax.lion),
    'nadamw': Optimizer('AdamW with Nesterov\'s momentum', optax.nadamw),
    'lamb': Optimizer(
        'LAMB: Adam, each array\'s step as long as its weights', optax.lamb),
    'schedule_free_adamw': Optimizer(
        'AdamW with an average of its steps, which is evaluated, in place of a '
        'falling rate', optax.contrib.schedule_free_adamw),
    'adafactor': Optimizer(
        'Adafactor: second moments of rows and columns', optax.adafactor),
    'muon': Optimizer(
        'Muon: momentum of matrices made orthogonal; Adam for the rest',
        _muon, blocks='leaf', lengths=False, passes=(optax.contrib.muon,)),
    'softplus_adamw': Optimizer(
        'AdamW whose denominator is a softplus, as SING\'s authors release it',
        _softplus_adamw, bare='adamw', passes=(gn.scale_by_softplus_adam,)),
    'sing': Optimizer(
        'SING: standardized gradients, AdamW, decay on matrices alone',
        gn.sing, bare='adamw', blocks='leaf', head=_sing_head),
    'row_normalized_momentum': Optimizer(
        'momentum, then each unit divided by its norm, as RMNP does',
        _row_normalized_momentum, bare='momentum', blocks='unit'),
    'normalized_adam': Optimizer(
        'Adam, then each matrix\'s step divided by its norm', _normalized_adam,
        bare='adam', blocks='leaf', passes=(optax.scale_by_adam,)),
    'path_sgd': Optimizer(
        'Path-SGD: steepest descent for the path norm of a ReLU net',
        _path_sgd, bare='sgd', context=True, head=_path_sgd_head,
        passes=(gn.path_sgd,)),
}


def blocks(method: schema.Method, default: By, context: Context,
           shared: bool = False) -> gn.Blocks:
  """Makes the `gn.Blocks` of a part, the model's stacks included.

  Args:
    method: The table, whose `blocks` say where axes are and what is left out.
    default: What the part takes together unless `by` says it.
    context: What the method may know about the model.
    shared: Whether `by` is meant for another part, the normalizer.
  """
  return gn.Blocks(**_table(method, default, context, shared))


def inner_blocks(method: schema.Method, default: By, context: Context,
                 shared: bool = False, lengths: bool = True) -> gn.Blocks:
  """The same of a part that stands inside `wrap`, if there is one.

  It sees the tree {'v': directions, 'g': lengths}, and without `lengths` leaves
  the latter out; the paths in a configuration are the model's.
  """
  given = _table(method, default, context, shared)
  if method.wrap is None:
    return gn.Blocks(**given)

  def inside(glob: str) -> str:
    return glob if glob.startswith('*') else f'[vg]/{glob}'

  axes = {name: {inside(glob): axis for glob, axis in given[name].items()}
          for name in ('stacked', 'fan_in', 'units')}
  return gn.Blocks(
      **{**given, **axes, 'skip': (
          *map(inside, given['skip']), *([] if lengths else ['g/*']))})


def _table(method: schema.Method, default: By, context: Context,
           shared: bool) -> dict[str, Any]:
  given = method.blocks or schema.BlocksTable()
  by = default if shared or given.by is None else given.by
  return {**dict(given), 'by': by,
          'stacked': {**context.stacked, **given.stacked}}


def _bng(method: schema.Method,
         context: Context) -> optax.GradientTransformation:
  taken = inner_blocks(method, 'layer', context)
  unit = gn.normalize_by_block_norm(taken)
  if method.ratio is None:
    return unit
  return optax.chain(
      unit, gn.scale_by_block_param_norm(taken, ratio=method.ratio))


def _standardize(method: schema.Method,
                 context: Context) -> optax.GradientTransformation:
  return gn.standardize(inner_blocks(method, 'leaf', context))


def _centralize(method: schema.Method,
                context: Context) -> optax.GradientTransformation:
  return gn.centralize(inner_blocks(method, 'leaf', context))


def _weight_normalized(
    tx: optax.GradientTransformation, method: schema.Method,
    context: Context, lengths: Literal['trained', 'fixed'] = 'trained',
) -> optax.GradientTransformation:
  where = {} if method.where is None else {'where': method.where}
  return gn.weight_normalized(
      tx, blocks=blocks(method, 'unit', context, bool(method.normalize)),
      lengths=lengths, **where)


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
                'times ratio x the norm of its weights', _bng, 'layer'),
    'sing': Part('SING\'s core: each array centralized, then divided by its '
                 'norm (without centralization: "bng" with blocks = "leaf")',
                 _standardize, 'leaf'),
    'centralize': Part('the fan-in mean of each unit subtracted', _centralize,
                       'leaf'),
}

WRAPPERS: dict[str, Part] = {
    'weight_normalized': Part(
        'trains length and direction of each unit\'s weights',
        _weight_normalized, 'unit', {'direction': 'v', 'length': 'g'}),
    'fixed_lengths': Part(
        'trains the direction of each unit\'s weights at the length of its '
        'start', functools.partial(_weight_normalized, lengths='fixed'),
        'unit', {'direction': 'v'}),
}
