"""What devices tell each other in a compiled program, read off its HLO."""

import json
import math
import re
from collections import Counter
from typing import NamedTuple

_KINDS = ('all-reduce', 'all-gather', 'reduce-scatter', 'all-to-all',
          'collective-permute', 'ragged-all-to-all', 'collective-broadcast')
_WIDTH = {'pred': 1, 's4': 0.5, 'u4': 0.5, 'bf16': 2, 'c64': 8, 'c128': 16}
_ARRAY = re.compile(r'\b([a-z]+\d*[a-z0-9]*)\[([\d,]*)\]')
_HEAD = re.compile(r'^(?:ENTRY )?%?([\w.-]+) .*->.*\{$')
_LINE = re.compile(r'^\s+(?:ROOT )?%?[\w.-]+ = (.*?) ([\w-]+)\((.*)$')
_CALLED = re.compile(
    r'(?:to_apply|body|true_computation|false_computation)=%?([\w.-]+)')
_BRANCHES = re.compile(r'branch_computations=\{([^}]*)\}')
_GROUPS = re.compile(r'replica_groups=(?:\{\{([\d,]*)\}|\[(\d+),(\d+)\])')
_AXES = re.compile(r"replica_groups=mesh\[([^\]]*)\] *\{([^}]*)\}")
_TRIPS = re.compile(r'"known_trip_count":(\{[^}]*\})')


class Collectives(NamedTuple):
  """Collectives of a program, each as often as its loops run.

  Attributes:
    calls: {kind: how many}.
    bytes: {kind: the bytes that they join or send, on each device}: an array
      that is summed or gathered counts whole, as it is before or after.
    branch_bytes: Those in branches of conditions, all together: they are taken
      rarely, or once an epoch.
  """

  calls: dict[str, int]
  bytes: dict[str, int]
  branch_bytes: int

  @property
  def total(self) -> int:
    """Bytes outside of branches."""
    return sum(self.bytes.values())


def read(text: str) -> Collectives:
  """Reads the text of a compiled program, `compiled.as_text()`.

  >>> found = read('''
  ... ENTRY %main (p: f32[8]) -> f32[8] {
  ...   ROOT %sum = f32[8]{0} all-reduce(%p), replica_groups=[1,4]<=[4]
  ... }''')
  >>> found.calls, found.bytes
  ({'all-reduce': 1}, {'all-reduce': 32})
  """
  bodies: dict[str, list[tuple[str, str, str]]] = {}
  main, here = '', None
  for line in text.splitlines():
    if (head := _HEAD.match(line)) and not line.startswith(' '):
      here = bodies.setdefault(head[1], [])
      main = head[1] if line.startswith('ENTRY') else main
    elif here is not None and (found := _LINE.match(line)):
      here.append((found[1], found[2], found[3]))
  count: Counter[str] = Counter()
  size: Counter[str] = Counter()
  aside = [0]

  def walk(name: str, times: int, branch: bool) -> None:
    for shape, operation, rest in bodies.get(name, ()):
      kind = operation.removesuffix('-start')
      if kind in _KINDS:
        taken = times * _bytes(shape, kind, rest, operation != kind)
        if branch:
          aside[0] += taken
        else:
          count[kind] += times
          size[kind] += taken
        continue
      if operation not in ('while', 'call', 'conditional', 'async-start'):
        continue
      often = times * (_trips(rest) if operation == 'while' else 1)
      inside = branch or operation == 'conditional'
      for called in _CALLED.findall(rest):
        walk(called, often, inside)
      for branches in _BRANCHES.findall(rest):
        for called in branches.split(','):
          walk(called.strip().lstrip('%'), often, inside)

  walk(main, 1, False)
  return Collectives(dict(count), dict(size), aside[0])


def _trips(rest: str) -> int:
  found = _TRIPS.search(rest)
  return int(json.loads(found[1])['n']) if found else 1


def _bytes(shape: str, kind: str, rest: str, started: bool) -> int:
  """The bytes of a collective whose result has this shape."""
  arrays = [_WIDTH.get(name, _bits(name) / 8) * math.prod(
      int(one) for one in dims.split(',') if one)
            for name, dims in _ARRAY.findall(shape)]
  if started and kind in ('all-gather', 'collective-permute'):
    arrays = arrays[len(arrays) // 2:][:max(1, len(arrays) // 2)]
  whole = sum(arrays)
  if kind == 'reduce-scatter':
    whole *= _members(rest)
  return round(whole)


def _members(rest: str) -> int:
  """How many devices a collective joins.

  >>> _members('replica_groups={{0,1},{2,3}}, dimensions={0}')
  2
  >>> _members('replica_groups=[2,4]<=[8]')
  4
  >>> _members("replica_groups=mesh['x'=2,'y'=4] {'x','y'}")
  8
  >>> _members("replica_groups=mesh['x'=8] {'x':(1)2}")  # a part of an axis
  2
  """
  if axes := _AXES.search(rest):
    sizes = dict(axis.split('=') for axis in axes[1].split(','))
    return math.prod(
        int(axis.rpartition(')')[2]) if ':(' in axis else int(sizes[axis])
        for axis in axes[2].split(','))
  if groups := _GROUPS.search(rest):
    return int(groups[3]) if groups[3] else len(groups[1].split(','))
  return 1


def _bits(name: str) -> int:
  found = re.search(r'\d+', name)
  return int(found[0]) if found else 8
