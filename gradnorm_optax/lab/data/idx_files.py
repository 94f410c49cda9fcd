"""Idx files, MNIST's format: an array behind a head that says its shape.

The head: two zero bytes, a byte for the kind of number, one for the rank, then
each size as four bytes; the numbers follow in C order, the highest byte first.
"""

import gzip
import math
import pathlib
import zlib

import numpy as np

from gradnorm_optax.lab.support.errors import LabError

KINDS = {0x08: 'u1', 0x09: 'i1', 0x0B: '>i2', 0x0C: '>i4', 0x0D: '>f4',
         0x0E: '>f8'}


def read(path: pathlib.Path) -> np.ndarray:
  """Reads an idx file, compressed (.gz) or not, in the machine's byte order.

  Raises:
    LabError: It is none, is damaged, or holds more or fewer numbers than it
      says.
  """
  try:
    content = path.read_bytes()
    if content[:2] == b'\x1f\x8b':
      content = gzip.decompress(content)
  except OSError as error:  # gzip's own is one, too
    raise LabError(f'{path}: cannot read this file: '
                   f'{error.strerror or error}') from error
  except (EOFError, zlib.error) as error:
    raise LabError(f'{path}: the file is damaged or cut short ({error}); copy '
                   'it again') from error
  kind = KINDS.get(content[2]) if len(content) > 3 else None
  if kind is None or content[:2] != b'\0\0':
    raise LabError(
        f'{path}: no idx file: it begins with '
        f'{content[:4].hex(" ") or "nothing"}, not with 00 00, a kind of '
        f'number ({", ".join(f"{code:02x}" for code in KINDS)}) and a rank')
  start = 4 + 4 * content[3]
  shape = tuple(map(int, np.frombuffer(
      content[4:start][:len(content[4:start]) // 4 * 4], '>u4')))
  size = start + math.prod(shape) * np.dtype(kind).itemsize
  if len(shape) < content[3] or len(content) != size:
    raise LabError(f'{path}: {len(content)} bytes, where its head of shape '
                   f'{shape} and kind {content[2]:02x} asks for {size}; it is '
                   'damaged or cut short: copy it again')
  values = np.frombuffer(content, kind, offset=start).reshape(shape)
  return values.astype(values.dtype.newbyteorder('='))
