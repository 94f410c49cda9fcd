"""The examples: loaded, divided and standardized."""

from typing import NamedTuple

import numpy as np

from gradnorm_optax.lab import characters, schema, tables


class Split(NamedTuple):
  """Inputs and targets, first axis: examples."""

  x: np.ndarray
  y: np.ndarray


class Dataset(NamedTuple):
  """Three parts of one set of examples.

  Attributes:
    train, validation, test: The parts; statistics come from `train` alone.
    classes: Number of classes, or of symbols.
    image: Height, width and channels where an example is a picture.
    description: One line for the report.
  """

  train: Split
  validation: Split
  test: Split
  classes: int
  image: tuple[int, int, int] | None
  description: str

  @property
  def chance(self) -> float:
    """The share of the commonest class in the validation part."""
    counts = np.bincount(self.validation.y.ravel())
    return float(counts.max() / counts.sum())


def load(config: schema.Data) -> Dataset:
  """Loads what `[data]` names; the same seed gives the same division."""
  return {'digits': _digits, 'characters': _characters, 'file': _own,
          'function': _own}[config.source](config)


def _digits(config: schema.Data) -> Dataset:
  """Scikit-learn's bundled 8x8 digits, stratified and standardized."""
  from sklearn import datasets
  bunch = datasets.load_digits()
  x, y = bunch.data, bunch.target.astype(np.int32)
  train, validation, test = divide(y, config)
  mean, std = x[train].mean(0), x[train].std(0)
  x = ((x - mean) / np.where(std > 0, std, 1.0)).astype(np.float32)
  parts = [Split(x[part], y[part]) for part in (train, validation, test)]
  sizes = ' + '.join(str(len(part.y)) for part in parts)
  return Dataset(
      parts[0], parts[1], parts[2], classes=10, image=(8, 8, 1),
      description=f'scikit-learn digits, 8x8 pixels, {sizes} examples')


def _own(config: schema.Data) -> Dataset:
  """The user's table or arrays; imputed and scaled on the training part."""
  x, y, notes = tables.read(config)
  if y.ndim == 1:
    train, validation, test = divide(y, config)
  else:  # one class for each position: nothing to stratify by
    train, validation, test = divide(np.zeros(len(y), np.int32), config)
  if x.dtype.kind == 'f':
    x = _scaled(x, train, config)
  else:
    x = x.astype(np.int32)
  parts = [Split(x[part], y[part]) for part in (train, validation, test)]
  sizes = ' + '.join(str(len(part.y)) for part in parts)
  where = config.path or config.target
  return Dataset(
      parts[0], parts[1], parts[2],
      classes=int(max(y.max(), x.max() if config.symbols else 0)) + 1,
      image=None, description='; '.join([f'{where}, {sizes} examples', *notes]))


def _scaled(x: np.ndarray, train: np.ndarray,
            config: schema.Data) -> np.ndarray:
  """Fills missing cells, then standardizes every feature (or channel)."""
  from sklearn.impute import SimpleImputer
  from sklearn.preprocessing import StandardScaler
  flat = x.reshape(-1, x.shape[-1]) if x.ndim == 4 else x.reshape(len(x), -1)
  known = (x[train].reshape(-1, x.shape[-1]) if x.ndim == 4
           else x[train].reshape(len(train), -1))
  if np.isnan(flat).any():
    imputer = SimpleImputer(
        strategy='median' if config.missing == 'median' else 'mean',
        keep_empty_features=True).fit(known)
    flat, known = imputer.transform(flat), imputer.transform(known)
  scaled = StandardScaler().fit(known).transform(flat)
  return scaled.reshape(x.shape).astype(np.float32)


def _characters(config: schema.Data) -> Dataset:
  """Generated text cut into windows; the target is the next character."""
  text = characters.text(config.size * config.length + 1, config.seed)
  alphabet = sorted(set(text))
  codes = np.array([alphabet.index(c) for c in text], np.int32)
  x = codes[:-1].reshape(-1, config.length)
  y = codes[1:].reshape(-1, config.length)
  # One stretch of text for each part: no window is continued in another part.
  first = round(config.size * (1 - config.validation - config.test))
  second = round(config.size * (1 - config.test))
  parts = [Split(x[a:b], y[a:b]) for a, b in (
      (0, first), (first, second), (second, config.size))]
  sizes = ' + '.join(str(len(part.y)) for part in parts)
  return Dataset(
      parts[0], parts[1], parts[2], classes=len(alphabet), image=None,
      description=f'generated text, {len(alphabet)} symbols, {sizes} windows '
                  f'of {config.length}')


def divide(y: np.ndarray, config: schema.Data) -> list[np.ndarray]:
  """Divides indices into training, validation and test, by class."""
  from sklearn.model_selection import train_test_split
  rest, test = train_test_split(
      np.arange(len(y)), test_size=config.test, random_state=config.seed,
      stratify=y)
  share = config.validation / (1 - config.test)
  train, validation = train_test_split(
      rest, test_size=share, random_state=config.seed, stratify=y[rest])
  return [train, validation, test]
