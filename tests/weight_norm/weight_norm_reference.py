"""Slow float64 references for weight normalization, unit by unit."""

import numpy as np


def units(array, axes):
  """Yields the index of each unit; `axes` are those of the fan-in."""
  kept = [1 if a in axes else n for a, n in enumerate(array.shape)]
  for index in np.ndindex(*kept):
    yield tuple(slice(None) if a in axes else i for a, i in enumerate(index))


def norms(v, axes):
  v = np.asarray(v, np.float64)
  result = np.zeros([1 if a in axes else n for a, n in enumerate(v.shape)])
  for unit in units(v, axes):
    place = tuple(0 if isinstance(i, slice) else i for i in unit)
    result[place] = np.sqrt(sum(x * x for x in v[unit].ravel()))
  return result


def weight(v, g, axes):
  """w = g v/||v||, 0 for a zero unit."""
  v, g = np.asarray(v, np.float64), np.asarray(g, np.float64)
  length = norms(v, axes)
  return np.where(length > 0, g * v / np.where(length > 0, length, 1), 0)


def gradients(slope, v, g, axes):
  """Gradients of (g, v) from that of w; a zero unit is a plain weight."""
  slope, v = np.asarray(slope, np.float64), np.asarray(v, np.float64)
  by_g, by_v = np.zeros(np.shape(g)), np.array(slope)
  for unit in units(v, axes):
    place = tuple(0 if isinstance(i, slice) else i for i in unit)
    length = np.sqrt((v[unit] ** 2).sum())
    if length > 0:
      by_g[place] = (slope[unit] * v[unit]).sum() / length
      by_v[unit] = (g[place] / length * slope[unit]
                    - g[place] * by_g[place] / length**2 * v[unit])
  return by_g, by_v


def momentum_step(slope, v, g, traces, axes, rate, decay):
  """One step of SGD with momentum on (g, v); a zero unit gets g = ||v||."""
  by_g, by_v = gradients(slope, v, g, axes)
  traces = [decay * traces[0] + by_g, decay * traces[1] + by_v]
  zero = norms(v, axes) == 0
  v = v - rate * traces[1]
  return v, np.where(zero, norms(v, axes), g - rate * traces[0]), traces
