"""The user's text as windows of symbols, in a mapped file."""

import pathlib
import tempfile
from collections.abc import Iterator, Sequence

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data.dataset import Dataset, Split, sizes
from gradnorm_optax.lab.data.preprocessing import Preprocessing
from gradnorm_optax.lab.objective import usual
from gradnorm_optax.lab.support import user_code
from gradnorm_optax.lab.support.errors import LabError

BLOCK = 1 << 20  # bytes or characters that are read at once


def windows(config: schema.Data) -> Dataset:
  """Cuts a text into windows; the target is the next symbol.

  One stretch of the text for each part, in the order training, validation,
  test. A single file of bytes is mapped as it lies; else the symbols are
  written to a temporary file, which is gone with the process.

  Args:
    config: `path` is a file, or a folder whose files follow each other by name.

  Raises:
    LabError: No text there, one that is too short, or not in its encoding.
  """
  assert config.path is not None
  path = user_code.beside(config.path)
  files = _files(path)
  if config.alphabet == 'bytes':
    codes = np.memmap(files[0], np.uint8, 'r') if (
        len(files) == 1 and files[0].stat().st_size) else (
            _mapped(_bytes(files), np.dtype(np.uint8)))
    outputs, known, names = 256, Preprocessing(), 'bytes'
  elif config.alphabet == 'uint16':
    codes = _numbers(files)
    outputs, known, names = 1 + max((int(codes[a:a + BLOCK].max()) for a in (
        range(0, len(codes), BLOCK))), default=0), Preprocessing(), 'numbers'
  else:
    codes, alphabet = _characters(files, config.encoding or 'utf-8')
    outputs, names = len(alphabet), 'characters'
    known = Preprocessing(symbols=tuple(alphabet))
  count = max(0, len(codes) - 1) // config.length
  validation, test = config.shares()
  ends = [round(count * share) for share in (
      0, 1 - validation - test, 1 - test, 1)]
  whole = count * config.length
  x = codes[:whole].reshape(-1, config.length)
  y = codes[1:whole + 1].reshape(-1, config.length)
  parts = [Split(x[a:b], y[a:b]) for a, b in zip(
      ends, ends[1:], strict=False)]
  if not all(len(part.y) for part in parts):
    raise LabError(f'[data] {path}: {len(codes)} {names} are {count} windows '
                   f'of {config.length}, too few for three parts; take more '
                   'text or a smaller length')
  return Dataset(
      parts[0], parts[1], parts[2], outputs, None,
      f'{len(codes)} {names} of {path.name}, {outputs} symbols, '
      f'{sizes(parts)} windows of {config.length}',
      usual.classes(outputs, parts[1].labelled().y, positions=True), outputs,
      preprocessing=known)


def _files(path: pathlib.Path) -> list[pathlib.Path]:
  """The file, or the files of a folder and of those in it, hidden ones not."""
  if path.is_dir():
    found = [one for one in sorted(path.rglob('*')) if one.is_file() and not (
        any(part.startswith('.') for part in one.relative_to(path).parts))]
    if not found:
      raise LabError(f'[data] {path}: no file in this folder')
    return found
  if not path.is_file():
    raise LabError(f'[data] path: {path} does not exist')
  return [path]


def _bytes(files: Sequence[pathlib.Path]) -> Iterator[np.ndarray]:
  for path in files:
    with path.open('rb') as file:
      while block := file.read(BLOCK):
        yield np.frombuffer(block, np.uint8)


def _numbers(files: Sequence[pathlib.Path]) -> np.ndarray:
  """The numbers that a tokenizer wrote."""
  for path in files:
    if path.stat().st_size % 2:
      raise LabError(f'[data] {path}: {path.stat().st_size} bytes are no whole '
                     'count of two-byte numbers (alphabet = "uint16")')
  if len(files) == 1 and files[0].stat().st_size:
    return np.memmap(files[0], '<u2', 'r')
  return _mapped(_bytes(files), np.dtype('<u2'))


def _points(files: Sequence[pathlib.Path],
            encoding: str) -> Iterator[np.ndarray]:
  """The code points of the files."""
  for path in files:
    try:
      with path.open(encoding=encoding, newline='') as file:
        while block := file.read(BLOCK):
          yield np.frombuffer(
              block.encode('utf-32-le', 'surrogatepass'), np.uint32)
    except UnicodeError as error:
      raise LabError(f'[data] {path}: not {encoding} text ({error}); give '
                     'data.encoding, or alphabet = "bytes"') from error


def _characters(files: Sequence[pathlib.Path],
                encoding: str) -> tuple[np.ndarray, list[str]]:
  """The text as numbers of an alphabet, and the alphabet, in order."""
  held = np.zeros(0, np.uint32)
  for block in _points(files, encoding):
    held = np.union1d(held, block)
  dtype = np.dtype(np.uint8 if len(held) <= 256 else np.uint16 if (
      len(held) <= 1 << 16) else np.uint32)
  codes = _mapped((np.searchsorted(held, block).astype(dtype)
                   for block in _points(files, encoding)), dtype)
  return codes, [chr(point) for point in held]


def _mapped(blocks: Iterator[np.ndarray], dtype: np.dtype) -> np.ndarray:
  """Writes the symbols to a temporary file that has no name, and maps it."""
  with tempfile.TemporaryFile() as file:
    for block in blocks:
      file.write(block.tobytes())
    file.flush()
    if not file.tell():
      return np.zeros(0, dtype)
    return np.memmap(file, dtype, 'r')
