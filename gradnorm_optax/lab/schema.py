"""The shape of a configuration: strict, frozen, typed tables.

Every table refuses keys that it does not know and names the nearest one. These
classes are plain data: nothing here imports JAX.
"""

import fnmatch
from typing import Annotated, Any, Literal

import pydantic
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic_core import PydanticCustomError

from gradnorm_optax.lab.errors import nearest

Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Rates = Annotated[tuple[PositiveFloat, ...], Field(min_length=1)]


def complaint(message: str) -> PydanticCustomError:
  """Makes a validation error whose text reaches the user unchanged."""
  return PydanticCustomError('lab', '{message}', {'message': message})


class Table(pydantic.BaseModel):
  """A table of the configuration; unknown keys are errors."""

  model_config = pydantic.ConfigDict(
      extra='forbid', frozen=True, allow_inf_nan=False)

  @pydantic.model_validator(mode='before')
  @classmethod
  def _known_keys(cls, values: Any) -> Any:
    for key in values if isinstance(values, dict) else ():
      if key not in cls.model_fields:
        raise complaint(f'unknown key {key!r}{nearest(key, cls.model_fields)}')
    return values


class Data(Table):
  """Where the examples come from and how they are divided."""

  source: Literal[
      'digits', 'iris', 'wine', 'breast_cancer', 'diabetes', 'characters',
      'long_dependency', 'file', 'function', 'hub', 'cifar10'] = 'digits'
  validation: Share = 0.15
  test: Share = 0.15
  seed: NonNegativeInt = 0
  length: PositiveInt = 64  # of an example of characters or long_dependency
  size: PositiveInt = 1200  # examples of characters
  task: str = 'temporal_order'  # of long_dependency
  # Of long_dependency: examples for training, validation and test.
  sizes: tuple[PositiveInt, PositiveInt, PositiveInt] = (20000, 1000, 10000)

  # .csv, .parquet, .npz, .npy or a folder of pictures for source = "file";
  # "owner/name" for "hub".
  path: str | None = None
  labels: str | None = None  # a second .npy, of the labels
  subset: str | None = None  # of a set of the hub
  resize: tuple[PositiveInt, PositiveInt] | None = None  # height, width
  target: str | None = None  # "module:function", for source = "function"
  label: str = 'y'  # the column or array of what is to be predicted
  predict: Literal['class', 'number'] = 'class'
  inputs: str = 'x'  # the array of the inputs, in an .npz
  ignore: tuple[str, ...] = ()  # columns to leave out
  categorical: tuple[str, ...] = ()  # columns of names, not numbers
  symbols: bool = False  # integer inputs are symbols, not numbers
  missing: Literal['error', 'drop', 'mean', 'median'] = 'error'
  unlabeled: Literal['error', 'drop'] = 'error'

  @pydantic.model_validator(mode='after')
  def _where_from(self) -> 'Data':
    if self.source in ('file', 'hub') and self.path is None:
      raise complaint(f'path and source = "{self.source}" belong together')
    if self.path is not None and self.source not in ('file', 'hub', 'cifar10'):
      raise complaint('path and source = "file" belong together')
    if (self.source == 'function') != (self.target is not None):
      raise complaint('target and source = "function" belong together')
    npy = self.path is not None and self.path.endswith('.npy')
    if npy != (self.labels is not None):
      raise complaint('labels and a path that ends in .npy belong together')
    return self

  @pydantic.model_validator(mode='after')
  def _room_for_training(self) -> 'Data':
    if self.validation + self.test >= 1:
      raise complaint('validation + test must leave a share for training')
    return self


class MLP(Table):
  """A plain perceptron: `depth` hidden layers of `width` units."""

  kind: Literal['mlp']
  depth: PositiveInt = 2
  width: PositiveInt = 100
  activation: Literal['sigmoid', 'tanh', 'relu', 'gelu'] = 'relu'
  start: Literal['balanced', 'unbalanced'] = 'balanced'


class CNN(Table):
  """A plain convolutional net: `depth` 3x3 layers, halved twice."""

  kind: Literal['cnn']
  depth: PositiveInt = 4
  width: PositiveInt = 16
  activation: Literal['sigmoid', 'tanh', 'relu', 'gelu'] = 'relu'


class ResNet(Table):
  """A residual net of three stages with `blocks` blocks each."""

  kind: Literal['resnet']
  blocks: PositiveInt = 1
  width: PositiveInt = 16
  batch_norm: bool = True


class Transformer(Table):
  """A small causal pre-LN transformer whose layers are scanned."""

  kind: Literal['transformer']
  depth: PositiveInt = 4
  width: PositiveInt = 64
  heads: PositiveInt = 4
  scan: bool = True
  axis: Literal[0, 1] = 0  # where the scanned layers are stacked

  @pydantic.model_validator(mode='after')
  def _whole_heads(self) -> 'Transformer':
    if self.width % self.heads:
      raise complaint(f'width ({self.width}) must be a multiple of heads '
                      f'({self.heads})')
    return self


class Own(Table):
  """The user's model: `target(outputs=n, **options)` makes a Linen module."""

  kind: Literal['target']
  target: str
  options: dict[str, Any] = {}


class RecurrentNet(Table):
  """A recurrent layer and a linear readout of its last states."""

  kind: Literal['recurrent']
  cell: Literal['srn', 'lstm', 'gru'] = 'srn'
  width: PositiveInt = 100
  activation: Literal['tanh', 'relu', 'linear'] = 'tanh'  # of the srn
  # Of the recurrent weights: irnn is the identity, radius a Gaussian matrix
  # of that spectral radius; all times `scale`.
  init: Literal['glorot', 'orthogonal', 'irnn', 'radius'] = 'glorot'
  scale: PositiveFloat = 1.0
  norm: Literal['none', 'weight'] = 'none'

  @pydantic.model_validator(mode='after')
  def _own_activation(self) -> 'RecurrentNet':
    if self.activation != 'tanh' and self.cell != 'srn':
      raise complaint('activation belongs to cell = "srn"; lstm and gru have '
                      'theirs')
    return self


class WeightNormNet(Table):
  """A convolutional net whose layers are normalized in one of several ways."""

  kind: Literal['weight_norm_paper', 'weight_norm_small']
  norm: Literal[
      'none', 'weight', 'mean_only', 'weight_mean_only', 'batch'] = 'none'
  data_init: bool = False  # g and b from the first examples
  depth: PositiveInt = 4  # of the small one
  width: PositiveInt | None = None  # None: 96 in the paper's, 16 in the small

  @pydantic.model_validator(mode='after')
  def _has_lengths(self) -> 'WeightNormNet':
    if self.data_init and 'weight' not in self.norm:
      raise complaint(f'data_init sets g, and norm = {self.norm!r} has none')
    return self


Model = Annotated[
    MLP | CNN | ResNet | Transformer | RecurrentNet | WeightNormNet | Own,
    Field(discriminator='kind')]


class BlocksTable(Table):
  """The arguments of `gn.Blocks`, written as a table."""

  by: Literal['leaf', 'layer', 'unit', 'global'] = 'layer'
  stacked: dict[str, int | tuple[int, ...]] = {}
  fan_in: dict[str, int | tuple[int, ...]] = {}
  skip: tuple[str, ...] = ()


class Sampling(Table):
  """Which examples of a batch a recurrent net is trained on, by `gn.sgr`.

  The batch is the pool. Q is the logarithm of the gradient's norm a share
  `horizon` of the sequence back (of it, where `relative`, that at the end).
  """

  # sgr exchanges examples for others of the pool, reweight weights the first
  # `size` of it, both where Q leaves its range; random takes the first `size`.
  rule: Literal['sgr', 'reweight', 'random'] = 'sgr'
  size: PositiveInt = 20
  horizon: Share = 0.9
  low: float = -1.0
  high: float = 1.0
  relative: bool = True

  @pydantic.model_validator(mode='after')
  def _a_range(self) -> 'Sampling':
    if self.low > self.high:
      raise complaint(f'low ({self.low:g}) must not exceed high '
                      f'({self.high:g})')
    return self


class Method(Table):
  """One row of the comparison: an optimizer and what stands around it.

  The chain is built in the order clip, normalize, optimizer, then wrapped.
  """

  optimizer: str
  options: dict[str, Any] = {}
  clip: PositiveFloat | None = None
  normalize: str | tuple[str, ...] = ()
  blocks: BlocksTable | Literal['leaf', 'layer', 'unit', 'global'] | None = None
  ratio: PositiveFloat | None = None
  wrap: str | None = None
  sampling: Sampling | None = None
  pascanu: PositiveFloat | None = None  # weight of Pascanu's regularizer
  lookahead: PositiveInt | None = None
  lookahead_alpha: Share = 0.5
  learning_rates: Rates | None = None
  models: tuple[str, ...] | None = None  # names or globs; None: all

  @property
  def normalizers(self) -> tuple[str, ...]:
    """The names under `normalize`, as a tuple."""
    names = self.normalize
    return (names,) if isinstance(names, str) else names


class Train(Table):
  """How one run trains."""

  steps: PositiveInt = 1000
  batch_size: PositiveInt = 100
  accumulate: PositiveInt = 1  # parts of a batch, averaged before the method
  dtype: Literal['float32', 'bfloat16'] = 'float32'  # of the computation
  eval_every: PositiveInt = 50
  schedule: Literal['constant', 'step', 'cosine', 'linear'] = 'constant'
  warmup: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0  # share of the steps
  decay_at: tuple[Share, ...] = (0.5, 0.75)  # shares of the steps
  decay_factor: PositiveFloat = 0.1
  # auto: cross_entropy for classes, squared_error for numbers.
  loss: str = 'auto'
  score: str | None = None  # "module:function", higher is better

  @pydantic.model_validator(mode='after')
  def _known_loss(self) -> 'Train':
    known = ('auto', 'cross_entropy', 'squared_error', 'absolute_error',
             'huber')
    if self.loss not in known and ':' not in self.loss:
      raise complaint(f'unknown loss {self.loss!r}{nearest(self.loss, known)} '
                      '(your own is written "package.module:function")')
    if self.score is not None and ':' not in self.score:
      raise complaint(f'score: {self.score!r} is no function; write it as '
                      '"package.module:function"')
    return self

  @pydantic.model_validator(mode='after')
  def _whole_chunks(self) -> 'Train':
    if self.steps % self.eval_every:
      raise complaint(f'steps ({self.steps}) must be a multiple of eval_every '
                      f'({self.eval_every})')
    if self.batch_size % self.accumulate:
      raise complaint(f'batch_size ({self.batch_size}) must be a multiple of '
                      f'accumulate ({self.accumulate})')
    return self


class Run(Table):
  """The one run that `gradnorm train` makes."""

  model: str | None = None  # None: the first
  method: str | None = None
  learning_rate: PositiveFloat = 0.01
  seed: NonNegativeInt = 0
  checkpoint_every: PositiveInt = 1  # evaluations
  keep: PositiveInt = 3  # checkpoints, besides the best
  non_finite: Literal['stop', 'skip'] = 'stop'
  max_skips: PositiveInt = 10  # in a row


class Compare(Table):
  """Which trials a comparison makes and how they are spread."""

  learning_rates: Rates = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
  tune_seeds: PositiveInt = 2
  seeds: PositiveInt = 5  # fresh ones, at the chosen rate
  target: float = 0.9  # validation score
  baseline: str | None = None
  workers: NonNegativeInt = 0  # 0: one per core
  trials_per_call: NonNegativeInt = 0  # 0: 1 on CPU, all of them elsewhere
  timing_rounds: PositiveInt = 15
  look: NonNegativeInt = 10  # first batches whose norms are shown; 0: none


class Config(Table):
  """A whole configuration."""

  name: Annotated[str, Field(pattern=r'^[\w.-]+$')]
  title: str = ''
  data: Data = Data()
  models: Annotated[dict[str, Model], Field(min_length=1)]
  methods: Annotated[dict[str, Method], Field(min_length=1)]
  train: Train = Train()
  run: Run = Run()
  compare: Compare = Compare()

  @pydantic.model_validator(mode='after')
  def _equal_grids(self) -> 'Config':
    size = len(self.compare.learning_rates)
    for name, method in self.methods.items():
      if method.learning_rates and len(method.learning_rates) != size:
        raise complaint(
            f'methods.{name}.learning_rates has {len(method.learning_rates)} '
            f'values, compare.learning_rates has {size}: every method must '
            'search a grid of the same size')
    for name, method in self.methods.items():
      if method.sampling and method.sampling.size > self.train.batch_size:
        raise complaint(
            f'methods.{name}.sampling.size ({method.sampling.size}) exceeds '
            f'train.batch_size ({self.train.batch_size}), the pool')
      if method.sampling and method.pascanu and (
          method.sampling.rule != 'random'):
        raise complaint(f'methods.{name}: with pascanu, sampling.rule must be '
                        '"random"')
      if (method.sampling or method.pascanu) and self.train.accumulate > 1:
        raise complaint(f'methods.{name}: sampling and pascanu look at a whole '
                        'batch; set train.accumulate = 1')
    return self

  @pydantic.model_validator(mode='after')
  def _known_models(self) -> 'Config':
    for name, method in self.methods.items():
      for glob in method.models or ():
        if not fnmatch.filter(self.models, glob):
          raise complaint(f'methods.{name}.models: unknown model {glob!r}'
                          f'{nearest(glob, self.models)}')
    for model in self.models:
      if not self.methods_on(model):
        raise complaint(f'models.{model}: no method runs on it (see `models` '
                        'of the methods)')
    return self

  def methods_on(self, model: str) -> dict[str, Method]:
    """The methods that run on a model."""
    return {name: method for name, method in self.methods.items()
            if method.models is None or any(
                fnmatch.fnmatchcase(model, glob) for glob in method.models)}

  @pydantic.model_validator(mode='after')
  def _known_baseline(self) -> 'Config':
    base = self.compare.baseline
    if base is not None and base not in self.methods:
      raise complaint(f'compare.baseline: unknown method {base!r}'
                      f'{nearest(base, self.methods)}')
    return self
