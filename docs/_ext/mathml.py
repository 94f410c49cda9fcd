"""Renders formulas as MathML while the site is built.

Browsers show MathML without a script, so pages need no network, and formulas
take the colour of the text around them, light or dark.
"""

from typing import Any

from docutils import nodes
from latex2mathml import converter
from sphinx import application
from sphinx.util import logging

logger = logging.getLogger(__name__)


def mathml(node: nodes.Element, display: str) -> str:
  """A formula's MathML; a warning and its source where it has none."""
  source = node.astext()
  try:
    return converter.convert(source, display=display)
  except Exception as error:  # the converter's errors have no common base
    logger.warning('no MathML of %r: %r', source, error, location=node)
    return f'<code>{nodes.unescape(source)}</code>'


def inline(writer: Any, node: nodes.Element) -> None:
  """A formula within a line."""
  writer.body.append(mathml(node, 'inline'))
  raise nodes.SkipNode


def block(writer: Any, node: nodes.Element) -> None:
  """A formula on lines of its own."""
  writer.body.append(writer.starttag(node, 'div', CLASS='formula'))
  writer.body.append(mathml(node, 'block') + '</div>\n')
  raise nodes.SkipNode


def setup(app: application.Sphinx) -> dict[str, Any]:
  """What Sphinx calls."""
  app.add_html_math_renderer(
      'mathml', inline_renderers=(inline, None), block_renderers=(block, None))
  return {'version': '1', 'parallel_read_safe': True,
          'parallel_write_safe': True}
