"""How a run lies on many devices: its mesh, and where each array is cut.

The mesh is Auto: what is said here is where the state and the batches lie, and
XLA puts the collectives.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from gradnorm_optax import _globs
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.schema.devices import AXES
from gradnorm_optax.lab.support.batch_cut import ROWS
from gradnorm_optax.lab.support.errors import LabError, nearest

Spec = tuple[tuple[str, ...], ...]  # for each axis the mesh axes that cut it


class Layout(NamedTuple):
  """Where a run lies.

  Attributes:
    mesh: Its devices; None for one, where nothing is said.
    rules: `[run.sharding]`.
    stacked: {glob: axis} along which layers are stacked, which is not cut
      unless a rule says so: every step of a scan would fetch its layer.
  """

  mesh: jax.sharding.Mesh | None = None
  rules: Mapping[str, Spec] = {}
  stacked: Mapping[str, int] = {}

  @property
  def shares(self) -> int:
    """Into how many parts a batch is cut."""
    return 1 if self.mesh is None else math.prod(
        self.mesh.shape[name] for name in ROWS)

  def cut(self, *spec: Any) -> Any:
    """A sharding; without a spec, whole on every device. None on one."""
    return self.mesh and NamedSharding(self.mesh, PartitionSpec(*spec))

  def jit(self, function: Callable[..., Any], out: Any = None) -> Any:
    """Compiles for the mesh; `out` are shardings, whole where None."""
    if self.mesh is None:
      return jax.jit(function)
    mesh = self.mesh.abstract_mesh

    def inside(*args: Any) -> Any:
      with jax.sharding.use_abstract_mesh(mesh):
        return function(*args)

    return jax.jit(
        inside, out_shardings=self.cut() if out is None else out)

  def put(self, arrays: Any, rows: bool = False) -> Any:
    """Puts NumPy arrays on the devices, each process its own share alone.

    Args:
      arrays: A tree; every process has all of it.
      rows: Whether the first axis is cut, filled up with the first rows where
        that does not come out even.
    """
    if self.mesh is None:
      return jax.device_put(arrays)
    sharding = self.cut(ROWS) if rows else self.cut()

    def one(array: np.ndarray) -> jax.Array:
      count = -(-len(array) // self.shares) * self.shares if rows else (
          len(array))

      def share(index: tuple[slice, ...] | None) -> np.ndarray:
        first, last, _ = (index or (slice(None),))[0].indices(count)
        if last <= len(array):
          return np.asarray(array[first:last])
        return array[np.arange(first, last) % len(array)]

      return jax.make_array_from_callback(
          (count, *array.shape[1:]), sharding, share)

    return jax.tree.map(one, arrays)

  def put_batches(self, array: np.ndarray, rows: np.ndarray) -> jax.Array:
    """Puts the rows of batches on the devices, each its own share of them.

    Args:
      array: Examples, perhaps a mapped file: what is not taken is not read.
      rows: (steps, examples of a step).
    """
    if self.mesh is None:
      return jax.device_put(np.asarray(array[rows]))
    return jax.make_array_from_callback(
        (*rows.shape, *array.shape[1:]), self.cut(None, ROWS),
        lambda index: np.asarray(array[rows[(index or ())[:2]]]))

  def shardings(self, state: Any, params: Any) -> Any:
    """Where every array of a run's state lies.

    An array whose path ends in a parameter's and that has its shape lies as
    the parameter does: moments, slow weights, directions. Others of two or more
    axes are cut by the default.

    Args:
      state: Arrays or shapes.
      params: The model's parameters; `rules` are about these.

    Raises:
      LabError: A rule without a parameter, or one that does not fit.
    """
    if self.mesh is None:
      return None
    shapes = dict(zip(_paths(params), jax.tree.leaves(params), strict=True))
    specs = self.specs(params)
    found = []
    for path, leaf in zip(_paths(state), jax.tree.leaves(state), strict=True):
      name = _suffix(path, shapes)
      if name and shapes[name].shape == leaf.shape:
        spec = specs[name]
      else:
        spec = self._default(name or path, leaf.shape)
      found.append(self.cut(*spec))
    return jax.tree.unflatten(jax.tree.structure(state), found)

  def specs(self, params: Any) -> dict[str, Sequence[Any]]:
    """{path: what a PartitionSpec is made of} of every parameter."""
    paths = _paths(params)
    globs = _globs.Globs(self.rules, paths)
    for glob in globs.idle():
      raise LabError(f'[run.sharding] {glob!r} matches no parameter'
                     f'{nearest(glob, paths)}')
    found: dict[str, Sequence[Any]] = {}
    for path, leaf in zip(paths, jax.tree.leaves(params), strict=True):
      first = globs.first(path)
      found[path] = self._default(path, leaf.shape) if first is None else (
          self._by_rule(first, path, leaf.shape))
    return found

  def _by_rule(self, glob: str, path: str,
               shape: tuple[int, ...]) -> Sequence[Any]:
    """What a rule says of a parameter."""
    spec, where = self.rules[glob], f'[run.sharding] {glob!r} on {path!r}'
    if len(spec) > len(shape):
      raise LabError(f'{where}: names {len(spec)} axes, and the parameter has '
                     f'{len(shape)}, {shape}')
    for axis, (names, size) in enumerate(zip(spec, shape, strict=False)):
      parts = self._parts(names)
      if size % parts:
        raise LabError(
            f'{where}: {" x ".join(names)} ({parts} devices) does not divide '
            f'axis {axis} of {shape}; cut another axis, or "" for none')
    return [tuple(names) or None for names in spec]

  def _default(self, path: str, shape: tuple[int, ...]) -> Sequence[Any]:
    """The longest axis that fsdp divides, where there are two or more."""
    parts = self._parts(('fsdp',))
    glob = _globs.Globs(self.stacked, [path]).first(path)
    stack = None if glob is None else self.stacked[glob] % max(len(shape), 1)
    able = [axis for axis, size in enumerate(shape)
            if axis != stack and size % parts == 0]
    if parts == 1 or not able or len(shape) - (stack is not None) < 2:
      return ()
    best = max(able, key=lambda axis: shape[axis])
    return [*([None] * best), 'fsdp']

  def _parts(self, names: Sequence[str]) -> int:
    assert self.mesh is not None
    return math.prod(self.mesh.shape[name] for name in names)


def make(mesh: schema.Mesh, rules: Mapping[str, Spec],
         stacked: Mapping[str, int], size: int) -> Layout:
  """The layout of a run on the devices that there are.

  Args:
    mesh: `[run.mesh]`. Where it says nothing one device is used; of several
      processes, all devices, along data.
    rules: `[run.sharding]`.
    stacked: {glob: axis} of stacked layers.
    size: Examples that are taken at once: of a step, or of a part of one.

  Raises:
    LabError: Not so many devices, or a batch that they do not divide.
  """
  several = jax.process_count() > 1
  if mesh.one() and not several:
    return Layout()
  sizes = (-1, 1, 1) if mesh.one() else mesh.sizes()
  devices = jax.devices()
  told = ', '.join(f'{name} = {size}' for name, size in zip(
      AXES, sizes, strict=True) if size != 1)
  fixed = math.prod(size for size in sizes if size != -1)
  if fixed > len(devices):
    raise LabError(f'[run.mesh] {told}: {fixed} devices are needed, and there '
                   f'are {len(devices)}')
  if len(devices) % fixed and -1 in sizes:
    raise LabError(f'[run.mesh] {told}: {fixed} does not divide the '
                   f'{len(devices)} devices')
  whole = tuple(len(devices) // fixed if size == -1 else size
                for size in sizes)
  count = math.prod(whole)
  if several and count != len(devices):
    raise LabError(f'[run.mesh] {told}: takes {count} of the {len(devices)} '
                   f'devices of {jax.process_count()} processes; all must be '
                   'taken, such as by a size of -1')
  found = Layout(jax.make_mesh(
      whole, AXES, devices=devices[:count],
      axis_types=(AxisType.Auto,) * len(AXES)), rules, stacked)
  if size % found.shares:
    raise LabError(
        f'[run.mesh] {told}: data x fsdp = {found.shares} does not divide the '
        f'{size} examples that are taken at once (train.batch_size, by '
        'train.accumulate)')
  return found


def _paths(tree: Any) -> list[str]:
  return [jax.tree_util.keystr(path, simple=True, separator='/')
          for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def _suffix(path: str, known: Mapping[str, Any]) -> str | None:
  """The longest known path in which a path ends.

  >>> _suffix('opt_state/0/mu/a/kernel', {'a/kernel': 0, 'kernel': 0})
  'a/kernel'
  """
  while path not in known:
    _, slash, path = path.partition('/')
    if not slash:
      return None
  return path
