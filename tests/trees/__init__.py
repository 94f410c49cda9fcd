"""Parameter trees of well-known projects, and where their fan-in lies.

Sizes are small and differ between axes, so that a wrong axis shows. The axes
are those over which the project's forward pass contracts the array; of a table
that is looked up, the axis of the vector it returns.
"""

from trees import (
    big_vision,
    easylm,
    flax_layers,
    gemma,
    keras,
    levanter,
    maxtext,
    t5x,
)
from trees.leaf import Leaf, nested, shapes

Table = dict[str, tuple[str, dict[str, Leaf]]]

# Name of the tree -> the preset meant for it and its leaves by path.
TREES: Table = {
    f'{preset}: {name}': (preset, leaves)
    for preset, module in (
        ('maxtext', maxtext), ('t5x', t5x), ('big_vision', big_vision),
        ('gemma', gemma), ('keras', keras), ('levanter', levanter),
        ('flax', easylm), ('flax', flax_layers))
    for name, leaves in module.TREES.items()}
# Trees whose names do not tell enough: a preset may refuse them, not be wrong.
UNTOLD: Table = {
    f'{preset}: {name}': (preset, leaves)
    for preset, module in (
        ('maxtext', maxtext), ('gemma', gemma), ('keras', keras))
    for name, leaves in module.UNTOLD.items()}

__all__ = ['TREES', 'UNTOLD', 'Leaf', 'nested', 'shapes']
