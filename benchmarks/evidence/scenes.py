"""Generated scenes: spheres and boxes before a wall, each pixel with a label.

Shading tells the form: a sphere is bright where it faces the lamp, a box has
one brightness, which depends on its tilt. Brightness times an unknown albedo
is all that a picture holds.
"""

import numpy as np

from gradnorm_optax.lab.support.errors import LabError

MOST, NOISE = 5, 0.02  # objects; deviation of a pixel


def scenes(examples: int = 1500, size: int = 32, task: str = 'depth',
           seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
  """Draws grey pictures of scenes, with what stands at each pixel.

  One lamp for all, above the left shoulder; parallel projection. Objects hide
  what is behind them.

  Args:
    examples: How many.
    size: Height and width.
    task: "depth" (how far each pixel is, in heights of the picture) or "kind"
      (0 wall, 1 sphere, 2 box).
    seed: Of the draw.

  Returns:
    Pictures (examples, size, size, 1), float32, and labels (examples, size,
    size), float32 or int32.

  >>> x, y = scenes(2, 8, 'kind')
  >>> x.shape, y.shape, y.dtype
  ((2, 8, 8, 1), (2, 8, 8), dtype('int32'))
  """
  if task not in ('depth', 'kind'):
    raise LabError(f'task = {task!r}: "depth" or "kind"')
  draw = np.random.default_rng(seed)
  v, u = np.meshgrid(*2 * [(np.arange(size) + 0.5) / size], indexing='ij')
  shape = examples, size, size

  def one(low: float, high: float) -> np.ndarray:
    return draw.uniform(low, high, (examples, 1, 1))

  # The wall: a plane that leans.
  slopes = one(-0.3, 0.3), one(-0.3, 0.3)
  depth = 2.2 + slopes[0] * (u - 0.5) + slopes[1] * (v - 0.5)
  light = np.broadcast_to(one(0.5, 1) * _facing(*slopes), shape).copy()
  kind = np.zeros(shape, np.int32)
  count = draw.integers(2, MOST + 1, (examples, 1, 1))
  for place in range(MOST):
    sphere = draw.random((examples, 1, 1)) < 0.5
    x, y, radius = u - one(0.1, 0.9), v - one(0.1, 0.9), one(0.1, 0.25)
    near, albedo, angle = one(0.7, 1.4), one(0.5, 1), one(0, np.pi)
    slopes = one(-1, 1), one(-1, 1)
    # The height of a sphere over its outline's plane, and its slopes there.
    inside = radius**2 - x**2 - y**2
    rise = np.sqrt(np.maximum(inside, 1e-6))
    a = np.cos(angle) * x + np.sin(angle) * y
    b = np.cos(angle) * y - np.sin(angle) * x
    box = (abs(a) < radius) & (abs(b) < one(0.5, 1) * radius)
    far = np.where(sphere, near - rise, near + slopes[0] * x + slopes[1] * y)
    bright = albedo * np.where(
        sphere, _facing(x / rise, y / rise), _facing(*slopes))
    seen = (np.where(sphere, inside > 0, box) & (far < depth)
            & (place < count))
    depth = np.where(seen, far, depth)
    light = np.where(seen, bright, light)
    kind = np.where(seen, np.where(sphere, 1, 2), kind)
  pictures = light + NOISE * draw.standard_normal(shape)
  return pictures[..., None].astype(np.float32), (
      depth.astype(np.float32) if task == 'depth' else kind.astype(np.int32))


def _facing(right: np.ndarray, down: np.ndarray) -> np.ndarray:
  """How bright a surface is whose depth grows so to the right and down.

  >>> _facing(np.float64(0.0), np.float64(0.0)).round(2)
  np.float64(0.82)
  """
  lamp = np.array([-0.5, -0.5, -1.0]) / np.sqrt(1.5)  # where it stands
  # A surface z(x, y) looks to (z_x, z_y, -1), towards the eye.
  towards = (lamp[0] * right + lamp[1] * down - lamp[2]) / np.sqrt(
      right**2 + down**2 + 1)
  return np.maximum(towards, 0.1)
