"""Times and sizes as they are read."""


def size(count: int) -> str:
  """A number of bytes.

  >>> size(512), size(20480), size(3 << 30)
  ('512 B', '20 KiB', '3 GiB')
  """
  value = float(count)
  for unit in ('B', 'KiB', 'MiB', 'GiB'):
    if value < 1024:
      break
    value /= 1024
  else:
    unit = 'TiB'
  return f'{value:.3g} {unit}' if value < 1000 else f'{value:.0f} {unit}'


def duration(seconds: float) -> str:
  """A time, as short as it is read.

  >>> duration(2.6e-5), duration(0.45), duration(90), duration(9000)
  ('26 us', '450 ms', '1.5 min', '2.5 h')
  """
  for least, unit in ((3600, 'h'), (60, 'min'), (1, 's'), (1e-3, 'ms')):
    if seconds >= least:
      return f'{seconds / least:.3g} {unit}'
  return f'{seconds / 1e-6:.3g} us'
