"""The trees people train: never silently wrong, and right with a preset."""

import pytest
import trees

import gradnorm_optax as gn
from gradnorm_optax._places import places


def judge(leaves, blocks):
  """{verdict: paths}: 'right', 'refused' where it says so, 'wrong'."""
  tree = trees.nested(leaves)
  found = {place.path: place for place in places(blocks, tree, 'test').values()}
  verdicts = {'right': [], 'refused': [], 'wrong': []}
  for path, leaf in leaves.items():
    place = found[path]
    right = (sorted(place.stack) == sorted(leaf.stack)
             and place.fan_in == leaf.fan_in)
    verdicts['refused' if place.doubt else 'right' if right else 'wrong'
             ].append(path)
  return verdicts


@pytest.mark.parametrize('name', trees.TREES)
def test_default_is_never_silently_wrong(name):
  _, leaves = trees.TREES[name]
  assert judge(leaves, gn.Blocks())['wrong'] == []


@pytest.mark.parametrize('name', trees.TREES)
def test_preset_is_right(name):
  preset, leaves = trees.TREES[name]
  verdicts = judge(leaves, getattr(gn.Blocks, preset)())
  assert verdicts['wrong'] == []
  # Flax's own names do not say how many axes of an Einsum are outputs, nor
  # which one a scan has added: those have to be named.
  assert preset == 'flax' or verdicts['refused'] == []
