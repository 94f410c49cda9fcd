"""Sequences of unequal length, padded to one."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gradnorm_optax.lab.support.errors import LabError


def ragged(values: Any) -> bool:
  """Whether these are sequences of unequal length, or of texts.

  >>> ragged([[1, 2], [3]]), ragged([[1, 2], [3, 4]]), ragged(['ab', 'ba'])
  (True, False, True)
  """
  if isinstance(values, np.ndarray) and values.dtype != object:
    return values.ndim == 1 and values.dtype.kind == 'U'
  if not len(values) or not all(
      isinstance(one, str) or np.ndim(np.asarray(one, object)) > 0
      for one in values):
    return False
  return texts(values) or len({len(one) for one in values}) > 1


def padded(sequences: Sequence[Any], place: Callable[[int], str]
           ) -> tuple[np.ndarray, np.ndarray]:
  """Pads sequences with zeros at their ends.

  Args:
    sequences: Arrays (T_i,) or (T_i, channels), or lists.
    place: Names an example for an error.

  Returns:
    An array (n, T, ...) and the lengths (n,), int32.

  >>> x, lengths = padded([[1, 2, 3], [4]], str)
  >>> x.tolist(), lengths.tolist()
  ([[1, 2, 3], [4, 0, 0]], [3, 1])
  """
  arrays = [known(np.asarray(one)) for one in sequences]
  for i, one in enumerate(arrays):
    if one.dtype == object:  # None is a missing cell
      try:
        arrays[i] = one = one.astype(np.float64)
      except (TypeError, ValueError) as error:
        raise LabError(f'{place(i)}: not a sequence of numbers: {error}'
                       ) from error
    if one.dtype.kind not in 'fiub' or one.ndim not in (1, 2) or not len(one):
      raise LabError(
          f'{place(i)}: not a sequence of numbers, shape (T,) or (T, '
          f'channels) with T > 0: {type(sequences[i]).__name__} of shape '
          f'{one.shape}, {one.dtype}')
    if one.shape[1:] != arrays[0].shape[1:]:
      raise LabError(
          f'{place(i)}: its steps have shape {one.shape[1:]}, those of '
          f'the first example {arrays[0].shape[1:]}')
  lengths = np.array([len(one) for one in arrays], np.int32)
  x = np.zeros((len(arrays), lengths.max(), *arrays[0].shape[1:]),
               np.result_type(*{one.dtype for one in arrays}))
  for i, one in enumerate(arrays):
    x[i, :len(one)] = one
  return x, lengths


def known(array: np.ndarray) -> np.ndarray:
  """The array; float32 where its numbers are bfloat16 or smaller ones.

  NumPy itself does not know them as numbers.
  """
  small = array.dtype.kind == 'V' and 'float' in array.dtype.name
  return array.astype(np.float32) if small else array


def coded(sequences: Sequence[Any], place: Callable[[int], str]
          ) -> tuple[list[np.ndarray], list[str]]:
  """Numbers symbols that are texts, in alphabetical order.

  Args:
    sequences: Texts, or lists of texts.
    place: Names an example for an error.

  Returns:
    The numbers of each, int32, and the alphabet.

  >>> codes, alphabet = coded(['aba', 'c'], str)
  >>> [one.tolist() for one in codes], alphabet
  ([[0, 1, 0], [2]], ['a', 'b', 'c'])
  """
  for i, one in enumerate(sequences):
    for symbol in one:
      if not isinstance(symbol, str):
        raise LabError(f'{place(i)}: the symbol {symbol!r} is no text, as the '
                       'first ones are; give texts alone or integers alone')
  alphabet = sorted({symbol for one in sequences for symbol in one})
  index = {symbol: i for i, symbol in enumerate(alphabet)}
  return [np.array([index[symbol] for symbol in one], np.int32)
          for one in sequences], alphabet


def texts(sequences: Sequence[Any]) -> bool:
  """Whether the symbols are texts."""
  return all(isinstance(one, str) or (
      len(one) > 0 and isinstance(one[0], str)) for one in sequences)
