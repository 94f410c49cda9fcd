"""Pictures, decoded: upright, of one size, all grey or all coloured."""

import collections
import io
from typing import Any

import numpy as np

from gradnorm_optax.lab import schema
from gradnorm_optax.lab.data import hub_loading
from gradnorm_optax.lab.data.raw import Raw, counted
from gradnorm_optax.lab.support.errors import LabError


def decoded(name: str, parts: list[hub_loading.Part], column: str, label: str,
            config: schema.Data) -> Raw:
  """Decodes pictures of one size; turns them as their camera was held.

  Args:
    name: The set's, for messages.
    parts: Its parts, one after another.
    column: Where the pictures are.
    label: Where their classes are.
    config: What to resize; with `missing = "drop"` those that cannot be read
      are left out.
  """
  import datasets
  items = [item for part in parts for item in part.examples.cast_column(
      column, datasets.Image(decode=False))]
  labels = np.concatenate([
      hub_loading.named(part.examples, label, part.examples[label][:])
      for part in parts])

  def where(example: int, entry: int | None) -> str:
    del entry
    path = items[example][column]['path']
    return path or f'{name}: example {example}'

  seen: collections.Counter[str] = collections.Counter()
  found: list[np.ndarray | None] = []
  broken = []
  for i, item in enumerate(items):
    try:
      found.append(opened(item[column], where(i, None), config.resize, seen))
    except (OSError, SyntaxError, ValueError) as error:
      broken.append(f'{where(i, None)}: cannot read this picture: '
                    f'{(str(error).splitlines() or [""])[0]}')
      found.append(None)
  if broken and config.missing != 'drop':
    raise LabError(f'{broken[0]} ({len(broken)} of {len(items)} pictures); '
                   'mend it, or set data.missing = "drop" to leave out what '
                   'cannot be read')
  kept = [i for i, picture in enumerate(found) if picture is not None]
  if not kept:
    raise LabError(f'{name}: no picture can be read; {broken[0]}')
  x = _stacked([picture for picture in found if picture is not None],
               [where(i, None) for i in kept])
  notes = [f'pictures of {x.shape[1]}x{x.shape[2]}x{x.shape[3]}'
           + (', resized' if config.resize else '')]
  if broken:
    notes.append(f'{counted(len(broken), "picture")} that cannot be read left '
                 f'out ({broken[0].partition(": cannot")[0]}'
                 f'{", ..." if len(broken) > 1 else ""})')
  notes += _told(seen, coloured=x.shape[3] == 3)
  part = hub_loading.codes(parts)
  return Raw(name, x, labels[kept], notes,
             lambda example, entry: where(kept[example], entry),
             image=x.shape[1:], part=None if part is None else part[kept])


def _stacked(pictures: list[np.ndarray], places: list[str]) -> np.ndarray:
  """One array of pictures of one size; grey ones beside coloured ones too."""
  colour = any(picture.ndim == 3 for picture in pictures)
  first = pictures[0].shape[:2]
  for i, picture in enumerate(pictures):
    if picture.shape[:2] != first:
      raise LabError(
          f'{places[i]}: {picture.shape[0]}x{picture.shape[1]} pixels, '
          f'the first picture {first[0]}x{first[1]}; set data.resize = '
          '[height, width]')
    if picture.ndim == 2:
      pictures[i] = np.repeat(picture[..., None], 3 if colour else 1, -1)
  return np.stack(pictures)


def resized(name: str, x: np.ndarray, size: tuple[int, int]) -> np.ndarray:
  """Brings pictures (n, height, width, channels) of bytes to a size."""
  try:
    from PIL import Image
  except ImportError as error:
    raise LabError('[data] resize needs the pillow package; run: pip install '
                   '"gradnorm_optax[data]"') from error
  if x.dtype != np.uint8:
    raise LabError(f'{name}: pictures of {x.dtype} cannot be resized, only '
                   'those of bytes; leave data.resize out')
  found = np.empty((len(x), *size, x.shape[3]), np.uint8)
  for i, picture in enumerate(x):
    for channel in range(x.shape[3]):
      plain = Image.fromarray(picture[..., channel])
      found[i, ..., channel] = np.asarray(plain.resize(
          (size[1], size[0]), Image.Resampling.BILINEAR))
  return found


def _told(seen: collections.Counter[str], coloured: bool) -> list[str]:
  """What was done to pictures of each kind."""
  notes = [f'{counted(number, "picture")} of mode {mode} read as RGB'
           for mode, number in sorted(seen.items())
           if mode not in ('1', 'L', 'RGB', 'turned')]
  if coloured and (grey := seen['1'] + seen['L']):
    notes.append(f'{counted(grey, "grey picture")} among coloured ones')
  if seen['turned']:
    notes.append(f'{counted(seen["turned"], "picture")} turned upright, as the '
                 'camera says')
  return notes


def opened(item: dict[str, Any], place: str, resize: tuple[int, int] | None,
           seen: collections.Counter[str]) -> np.ndarray:
  """Decodes a picture: (height, width), or (height, width, 3).

  Args:
    item: Its `bytes`, or the `path` where those are None.
    place: What messages call it.
    resize: Height and width to bring it to.
    seen: Counts its mode, and whether it was turned.
  """
  from PIL import ExifTags, Image, ImageOps
  source = item['path'] if item['bytes'] is None else io.BytesIO(item['bytes'])
  with Image.open(source) as picture:
    if picture.mode[0] in 'IF':
      raise LabError(f'{place}: a picture of more than 8 bits a pixel (mode '
                     f'{picture.mode}); save it with 8 bits')
    upright = ImageOps.exif_transpose(picture)
    plain = upright.convert('L' if picture.mode in ('1', 'L') else 'RGB')
    if resize is not None:
      plain = plain.resize((resize[1], resize[0]), Image.Resampling.BILINEAR)
    seen[picture.mode] += 1
    seen['turned'] += picture.getexif().get(
        ExifTags.Base.Orientation, 1) not in (0, 1)
    return np.asarray(plain)
