"""The slow reference: a network as a list of edges, and a walk of every path.

Nothing here knows of lifting. A graph is built edge by edge, every path from an
input or the constant unit to an output is written down, and products are taken
over each path in float64.
"""

import itertools

import numpy as np


class Graph:
  """A network as edges (source, weight, key); key names the parameter entry."""

  def __init__(self):
    self.incoming = []
    self.unit = self.node()  # the constant unit

  def node(self, *edges):
    self.incoming.append(list(edges))
    return len(self.incoming) - 1

  def inputs(self, shape):
    nodes = np.empty(shape, object)
    for index in np.ndindex(*shape):
      nodes[index] = self.node()
    return nodes

  def each(self, nodes, function):
    """Adds a node for each node: function(node, index) gives its edges."""
    out = np.empty(nodes.shape, object)
    for index in np.ndindex(*nodes.shape):
      out[index] = self.node(*function(nodes[index], index))
    return out

  def shift(self, nodes, values, name=None):
    """x + b along the last axis."""
    return self.each(nodes, lambda n, i: [
        (n, 1.0, None),
        (self.unit, values[i[-1]], name and (name, (i[-1],)))])

  def scale(self, nodes, values, name=None):
    """x * m along the last axis."""
    return self.each(nodes, lambda n, i: [
        (n, values[i[-1]], name and (name, (i[-1],)))])

  def dense(self, nodes, kernel, name):
    out = np.empty(kernel.shape[1], object)
    for j in range(kernel.shape[1]):
      out[j] = self.node(*(
          (nodes[i], kernel[i, j], (name, (i, j)))
          for i in range(kernel.shape[0])))
    return out

  def conv(self, nodes, kernel, name):
    """A 2-D convolution, stride 1, SAME, an odd kernel (h, w, in, out)."""
    height, width, inner, outer = kernel.shape
    out = np.empty(nodes.shape[:2] + (outer,), object)
    for r, c, o in np.ndindex(*out.shape):
      edges = []
      for i, j, k in itertools.product(
          range(height), range(width), range(inner)):
        y, x = r + i - height // 2, c + j - width // 2
        if 0 <= y < nodes.shape[0] and 0 <= x < nodes.shape[1]:
          edges.append(
              (nodes[y, x, k], kernel[i, j, k, o], (name, (i, j, k, o))))
      out[r, c, o] = self.node(*edges)
    return out

  def max_pool(self, nodes):
    """2 x 2 windows, stride 2: an edge of weight one from each entry."""
    shape = nodes.shape[0] // 2, nodes.shape[1] // 2, nodes.shape[2]
    out = np.empty(shape, object)
    for r, c, k in np.ndindex(*shape):
      window = nodes[2 * r:2 * r + 2, 2 * c:2 * c + 2, k]
      out[r, c, k] = self.node(*((n, 1.0, None) for n in window.flat))
    return out

  def average_pool(self, nodes):
    """2 x 2, stride 1, SAME, counting only what lies inside."""
    out = np.empty(nodes.shape, object)
    for r, c, k in np.ndindex(*nodes.shape):
      window = nodes[r:r + 2, c:c + 2, k]
      out[r, c, k] = self.node(*(
          (n, 1.0 / window.size, None) for n in window.flat))
    return out

  def add(self, left, right):
    return self.each(left, lambda n, i: [(n, 1.0, None), (right[i], 1.0, None)])

  def paths(self, outputs):
    """Returns every path as (weights, keys), from its end to its start."""
    found = []

    def walk(node, weights, keys):
      if not self.incoming[node]:
        found.append((weights, keys))
      for source, weight, key in self.incoming[node]:
        walk(source, weights + [weight], keys + [key])

    for node in np.asarray(outputs, object).flat:
      walk(node, [], [])
    return found


class Paths:
  """All paths of a graph, and the sums over them."""

  def __init__(self, graph, outputs):
    found = graph.paths(outputs)
    self.length = max(len(weights) for weights, _ in found)
    self.weights = np.ones((len(found), self.length))
    self.keys = [keys for _, keys in found]
    for row, (weights, _) in zip(self.weights, found):
      row[:len(weights)] = weights

  def norm(self, p):
    return np.sum(np.prod(np.abs(self.weights) ** p, axis=1)) ** (1 / p)

  def scale(self, params, p):
    """Returns gamma for a dict of arrays."""
    lifted = np.abs(self.weights) ** p
    sums = {name: np.zeros(np.shape(value)) for name, value in params.items()}
    for place in range(self.length):
      # The product over a path without the edge at this place.
      others = np.prod(np.delete(lifted, place, axis=1), axis=1)
      for other, keys in zip(others, self.keys):
        if place < len(keys) and keys[place] is not None:
          name, index = keys[place]
          sums[name][index] += other
    return {name: total ** (2 / p) for name, total in sums.items()}


def assert_close(got, want, rtol=1e-12):
  assert sorted(got) == sorted(want)
  for name in want:
    np.testing.assert_allclose(
        np.asarray(got[name], np.float64), want[name], rtol=rtol, err_msg=name)
