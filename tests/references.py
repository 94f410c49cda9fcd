"""Slow, obviously right references in float64 NumPy.

Each takes updates and parameters as {path: array} and returns {path: array} for
the first step from a fresh state. Written from the formulas, with loops.
"""

import numpy as np


def layer_of(path: str) -> str:
  return path.rpartition('/')[0]


def name_of(path: str) -> str:
  return path.rpartition('/')[2]


def norm_of(arrays) -> float:
  return float(np.sqrt(sum(float(x) ** 2 for a in arrays for x in a.ravel())))


def block_normalized(updates, params, *, label=layer_of, eps=0.0):
  result = {}
  for path, g in updates.items():
    norm = norm_of([h for p, h in updates.items() if label(p) == label(path)])
    result[path] = g / (norm + eps) if norm > 0 else np.zeros_like(g)
  return result


def param_norm_scaled(updates, params, *, ratio, min_norm=0.0):
  result = {}
  for path, g in updates.items():
    norm = norm_of([
        w for p, w in params.items() if layer_of(p) == layer_of(path)])
    result[path] = g * ratio * max(norm, min_norm)
  return result


def centralized(updates, params):
  result = {}
  for path, g in updates.items():
    centered = g.copy()
    if name_of(path) == 'kernel' and g.size > g.shape[-1]:
      for unit in range(g.shape[-1]):
        centered[..., unit] -= g[..., unit].mean()
    result[path] = centered
  return result


def standardized(updates, params, *, eps=1e-8):
  return block_normalized(
      centralized(updates, params), params, label=lambda path: path, eps=eps)


def softplus_adam(updates, params, *, b1=0.9, b2=0.999, eps=1e-8, beta=50.0):
  result = {}
  for path, g in updates.items():
    m, v = (1 - b1) * g, (1 - b2) * g**2
    d = np.sqrt(v) / np.sqrt(1 - b2)
    d = d + eps if beta is None else np.log1p(np.exp(beta * d)) / beta
    result[path] = m / (1 - b1) / d
  return result


def sing(updates, params, *, learning_rate, weight_decay, beta=None):
  unit = standardized(updates, params)
  step = softplus_adam(unit, params, beta=beta)
  return {
      path: -learning_rate * (
          u + weight_decay * params[path] * (name_of(path) == 'kernel'))
      for path, u in step.items()}


def weight_normalized_sgd(updates, params, *, learning_rate):
  """One SGD step on (g, v) of kernels (fan-in, out), and on other arrays."""
  result = {}
  for path, grad in updates.items():
    w = params[path]
    if name_of(path) != 'kernel':
      result[path] = -learning_rate * grad
      continue
    new = np.zeros_like(w)
    for unit in range(w.shape[-1]):
      v, dw = w[..., unit], grad[..., unit]
      g = norm_of([v])
      grad_g = float(np.sum(dw * v)) / g
      grad_v = dw - grad_g * v / g
      v, g = v - learning_rate * grad_v, g - learning_rate * grad_g
      new[..., unit] = g * v / norm_of([v])
    result[path] = new - w
  return result


def path_normalized(updates, params, *, layers):
  """u / gamma_2 of a ReLU multilayer perceptron, unit by unit."""
  ways_in, gamma = [np.ones(params[layers[0] + '/kernel'].shape[0])], {}
  for layer in layers:
    kernel, bias = params[layer + '/kernel'], params[layer + '/bias']
    ways_in.append(np.array([
        sum(ways_in[-1][u] * kernel[u, v] ** 2 for u in range(len(kernel)))
        + bias[v] ** 2 for v in range(kernel.shape[1])]))
  ways_out = np.ones(params[layers[-1] + '/kernel'].shape[1])
  for layer, inputs in zip(layers[::-1], ways_in[-2::-1], strict=True):
    kernel = params[layer + '/kernel']
    gamma[layer + '/kernel'] = np.outer(inputs, ways_out)
    gamma[layer + '/bias'] = ways_out
    ways_out = np.array([
        sum(kernel[u, v] ** 2 * ways_out[v] for v in range(kernel.shape[1]))
        for u in range(len(kernel))])
  return {
      path: np.where(gamma[path] > 0, g / np.where(
          gamma[path] > 0, gamma[path], 1), 0) for path, g in updates.items()}
