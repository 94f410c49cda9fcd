"""An array as a text that JSON can hold."""

import base64
import io
import zlib

import numpy as np


def pack(array: np.ndarray) -> str:
  """Writes an array as text: .npy, compressed, in base64.

  >>> unpack(pack(np.float32([[0.1, 2]]))).tolist()
  [[0.10000000149011612, 2.0]]
  """
  file = io.BytesIO()
  np.save(file, array, allow_pickle=False)
  return base64.b64encode(zlib.compress(file.getvalue())).decode('ascii')


def unpack(text: str) -> np.ndarray:
  """Reads it back."""
  return np.load(io.BytesIO(zlib.decompress(base64.b64decode(text))),
                 allow_pickle=False)
