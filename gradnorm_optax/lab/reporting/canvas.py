"""Figures that a notebook shows, whether or not pyplot was imported."""

import io
import re
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from matplotlib import figure, font_manager

# Okabe and Ito's colours: told apart by colour-blind readers too.
COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7', '#E69F00', '#56B4E9',
           '#8C8C8C', '#8C564B')
# Families that hold Chinese, Japanese and Korean names, where one is installed.
EAST_ASIAN = (
    'Noto Sans CJK SC', 'Noto Sans CJK JP', 'Noto Sans CJK KR', 'Noto Sans SC',
    'Source Han Sans SC', 'WenQuanYi Zen Hei', 'WenQuanYi Micro Hei',
    'IPAexGothic', 'Hiragino Sans', 'PingFang SC', 'Apple SD Gothic Neo',
    'Yu Gothic', 'Microsoft YaHei', 'SimHei', 'Malgun Gothic', 'MS Gothic',
    'Arial Unicode MS')
MARKS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')


class Canvas(figure.Figure):
  """A matplotlib figure that belongs to no window."""

  def _repr_png_(self) -> bytes:
    return image(self, 'png')


def stems(names: Iterable[str]) -> dict[str, str]:
  """Names of files without their endings, one for each figure.

  Whatever a model is called; no two are alike, also where a disk knows no
  capitals.

  >>> stems(['norms-net 1', 'norms-net_1', 'norms-Net_1'])
  {'norms-net 1': 'norms-net_1', 'norms-net_1': 'norms-net_1-2', \
'norms-Net_1': 'norms-Net_1-3'}
  """
  found: dict[str, str] = {}
  taken: set[str] = set()
  for name in names:
    plain = stem = re.sub(r'[^\w.-]', '_', name)
    count = 1
    while stem.lower() in taken:
      count += 1
      stem = f'{plain}-{count}'
    taken.add(stem.lower())
    found[name] = stem
  return found


def images(pictures: Mapping[str, figure.Figure]
           ) -> Iterator[tuple[str, bytes]]:
  """The files of several figures: names and contents, SVG and PNG."""
  for name, stem in stems(pictures).items():
    for kind in ('svg', 'png'):
      yield f'{stem}.{kind}', image(pictures[name], kind)


def fonts() -> list[str]:
  """The families that figures are set in: matplotlib's, then East Asian ones.

  An SVG keeps its text as text, and whoever shows it has the font; a PNG on a
  machine without one shows boxes.
  """
  installed = set(font_manager.get_font_names())
  return ['DejaVu Sans', *(name for name in EAST_ASIAN if name in installed)]


def image(picture: figure.Figure, kind: str, **options: Any) -> bytes:
  """The file of a figure, `svg` or `png`."""
  buffer = io.BytesIO()
  with warnings.catch_warnings():
    warnings.filterwarnings('ignore', r'Glyph \d+ .* missing from font')
    picture.savefig(buffer, format=kind, **{'dpi': 150, **options})
  return buffer.getvalue()
