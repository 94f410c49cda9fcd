"""The trees people train: never silently wrong, and right with a preset."""

import pytest
import trees
from trees.verdicts import judge

import gradnorm_optax as gn


@pytest.mark.parametrize('name', trees.TREES)
def test_default_is_never_silently_wrong(name):
  _, leaves = trees.TREES[name]
  assert judge(leaves, gn.Blocks())['wrong'] == []


@pytest.mark.parametrize('name', trees.UNTOLD)
def test_preset_refuses_what_names_do_not_tell(name):
  preset, leaves = trees.UNTOLD[name]
  for blocks in (gn.Blocks(), getattr(gn.Blocks, preset)()):
    assert judge(leaves, blocks)['wrong'] == []


@pytest.mark.parametrize('name', trees.TREES)
def test_preset_is_right(name):
  preset, leaves = trees.TREES[name]
  verdicts = judge(leaves, getattr(gn.Blocks, preset)())
  assert verdicts['wrong'] == []
  # Flax's own names do not say how many axes of an Einsum are outputs, nor
  # which one a scan has added: those have to be named.
  assert preset == 'flax' or verdicts['refused'] == []
