"""How libraries and projects name and lay out their parameters: one table.

A pattern has one letter for each axis of an array, layer axes left out:
`i` fan-in, `o` output, `s` a stack inside the layer (each expert is a block of
its own), `v` an axis of a vector (a bias, a scale). A rule counts where its
glob matches `/` + path and its pattern has the array's rank: the same name may
stand for a fused and for a plain projection, and a layer axis nobody named
changes the rank, so that it is found and not taken for something else.
"""

import dataclasses
from typing import NamedTuple


class Rule(NamedTuple):
  """The axes of the arrays that a glob names."""

  glob: str
  pattern: str
  # (name, axis): counts only if the fan-in is as large as that axis of the
  # array of that name beside it.
  like: tuple[str, int] | None = None


@dataclasses.dataclass(frozen=True)
class Convention:
  """What names say.

  Attributes:
    rules: In order; the first that counts wins.
    vectors: Names of arrays that count as rank 1 whatever their shape.
    matrices: Names of arrays whose outputs lie at one end (see `outputs`);
      where no rule counts, the bias beside them, or the shape of a convolution,
      tells how many.
    bias: Name of the bias beside a matrix.
    outputs: 'last' or 'first': where a matrix has its outputs.
    stacked: Globs of the arrays that carry layer axes, and how many.
  """

  rules: tuple[Rule, ...] = ()
  vectors: frozenset[str] = frozenset()
  matrices: frozenset[str] = frozenset()
  bias: str = 'bias'
  outputs: str = 'last'
  stacked: tuple[tuple[str, int], ...] = ()

  def knows(self, name: str) -> bool:
    """Tells whether this is a name of parameters, not of modules."""
    return name in self.vectors or name in self.matrices or any(
        rule.glob.removeprefix('*/') == name for rule in self.rules)


def _rules(*rows: str) -> tuple[Rule, ...]:
  """Reads rows `glob pattern pattern ...`."""
  return tuple(Rule('*/' + glob, pattern) for glob, *patterns in map(
      str.split, rows) for pattern in patterns)


_HEADS = ('query/kernel ioo', 'key/kernel ioo', 'value/kernel ioo',
          'out/kernel iio')
# Vectors of the three libraries whose layers the projects below are made of.
_FLAX = frozenset({'bias', 'scale'})

CONVENTIONS: dict[str, Convention] = {
    'flax': Convention(
        _rules(*_HEADS, 'kernel io', 'embedding oi'),
        _FLAX | {
            # lengths that `gradnorm_optax.linen` and `nnx` keep beside weights
            'kernel_g', 'kernel_log_g', 'embedding_g', 'embedding_log_g'},
        frozenset({'kernel'})),
    'haiku': Convention(
        _rules('w io', 'w_i io', 'w_h io', 'embeddings oi'),
        frozenset({'b', 'scale', 'offset'}), frozenset({'w'}), 'b'),
    'equinox': Convention(
        _rules('weight oi', 'weight_ih oi', 'weight_hh oi'),
        frozenset({'bias', 'bias_n'}), frozenset({'weight'}),
        outputs='first'),
}
