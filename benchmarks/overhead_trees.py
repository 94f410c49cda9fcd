"""Shapes of parameter trees whose optimizer's step is measured."""

from typing import Any

Shapes = dict[str, tuple[int, ...]]


def mlp(width: int = 1024, depth: int = 12) -> Shapes:
  """12 M parameters in 26 arrays, unless told otherwise."""
  sizes = [784] + [width] * depth + [10]
  shapes: Shapes = {}
  for n, (fan_in, out) in enumerate(zip(sizes, sizes[1:], strict=False)):
    shapes |= {f'Dense_{n}/kernel': (fan_in, out), f'Dense_{n}/bias': (out,)}
  return shapes


def resnet() -> Shapes:
  """A ResNet-50-shaped tree: 25 M parameters in many small arrays."""
  shapes: Shapes = {'stem/kernel': (7, 7, 3, 64)}
  wide = 64
  for stage, (blocks, width) in enumerate(
      [(3, 64), (4, 128), (6, 256), (3, 512)]):
    for block in range(blocks):
      here = f'stage{stage}_block{block}'
      shapes |= {
          f'{here}_a/kernel': (1, 1, wide, width),
          f'{here}_b/kernel': (3, 3, width, width),
          f'{here}_c/kernel': (1, 1, width, 4 * width)}
      for part, size in (('a', width), ('b', width), ('c', 4 * width)):
        shapes |= {f'{here}_norm_{part}/scale': (size,),
                   f'{here}_norm_{part}/bias': (size,)}
      if block == 0:
        shapes[f'{here}_skip/kernel'] = (1, 1, wide, 4 * width)
      wide = 4 * width
  return shapes | {'head/kernel': (wide, 1000), 'head/bias': (1000,)}


def transformer(depth: int) -> Shapes:
  """A scanned pre-LN stack; stacked axis 0."""
  return {
      'layers/attn/kernel': (depth, 256, 768), 'layers/attn/bias': (depth, 768),
      'layers/out/kernel': (depth, 256, 256), 'layers/out/bias': (depth, 256),
      'layers/up/kernel': (depth, 256, 1024), 'layers/up/bias': (depth, 1024),
      'layers/down/kernel': (depth, 1024, 256),
      'layers/down/bias': (depth, 256),
      'layers/norm/scale': (depth, 256), 'layers/norm/bias': (depth, 256),
      'embed/embedding': (256, 256)}


def many(arrays: int = 2000) -> Shapes:
  shapes: Shapes = {}
  for n in range(arrays // 2):
    shapes |= {f'Dense_{n}/kernel': (8, 8 + n % 7),
               f'Dense_{n}/bias': (8 + n % 7,)}
  return shapes


def tree(shapes: Shapes, make: Any) -> Any:
  nested: dict[str, Any] = {}
  for path, shape in shapes.items():
    *parents, name = path.split('/')
    node = nested
    for parent in parents:
      node = node.setdefault(parent, {})
    node[name] = make(shape)
  return nested
