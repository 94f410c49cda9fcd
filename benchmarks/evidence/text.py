"""Python's own library as text, which every machine of this project has."""

import pathlib
import sysconfig

import numpy as np

PARTS = ('train', 'validation', 'test')


def windows(part: str, length: int = 64, megabytes: float = 2.0,
            held: int = 200) -> tuple[np.ndarray, np.ndarray]:
  """Cuts one stretch of the library's top-level modules into windows.

  The modules follow each other by name; validation and test are stretches at
  the end, so that nothing of a held window was trained on.

  Args:
    part: One of `PARTS`.
    length: Of a window, in bytes.
    megabytes: How much text is taken in all.
    held: Windows of validation, and of test.

  Returns:
    Symbols (windows, length), and those that follow them: 0 for the end of a
    line, 1 to 95 for what can be printed.
  """
  folder = pathlib.Path(sysconfig.get_path('stdlib'))
  text = bytearray()
  for path in sorted(folder.glob('*.py')):
    text += path.read_bytes()
    if len(text) > megabytes * 1e6:
      break
  table = np.full(256, ord('?') - 31, np.int32)  # of whatever is rare
  table[ord('\n')] = 0
  table[32:127] = np.arange(1, 96)
  codes = table[np.frombuffer(bytes(text), np.uint8)]
  count = min(int(megabytes * 1e6), len(codes) - 1) // length
  x = codes[:count * length].reshape(count, length)
  y = codes[1:count * length + 1].reshape(count, length)
  ends = {'train': slice(0, count - 2 * held),
          'validation': slice(count - 2 * held, count - held),
          'test': slice(count - held, count)}
  return x[ends[part]], y[ends[part]]


def train(length: int = 64) -> tuple[np.ndarray, np.ndarray]:
  """The stretch to train on."""
  return windows('train', length)


def validation(length: int = 64) -> tuple[np.ndarray, np.ndarray]:
  """The stretch that chooses."""
  return windows('validation', length)


def test(length: int = 64) -> tuple[np.ndarray, np.ndarray]:
  """The stretch that judges."""
  return windows('test', length)
