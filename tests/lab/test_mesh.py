"""One run on many devices equals the run on one, or is refused in a line."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from gradnorm_optax import lab
from gradnorm_optax.lab import schema
from gradnorm_optax.lab.methods import registry
from gradnorm_optax.lab.run import compiled_run
from gradnorm_optax.lab.run.checkpoints import Checkpoints
from gradnorm_optax.lab.training import layout

DECODER = {
    'data': {'source': 'characters', 'size': 60, 'length': 8},
    'models': {'decoder': {'kind': 'transformer', 'depth': 2, 'width': 8,
                           'heads': 2}},
    'methods': {'bng': {'optimizer': 'adamw', 'normalize': 'bng'}},
    'train': {'steps': 50, 'eval_every': 50, 'batch_size': 8},
    'run': {'look': 0}}
SPREAD = ['run.mesh.data=2', 'run.mesh.fsdp=2', 'run.mesh.tensor=-1',
          'run.sharding={"layers/mlp_in/kernel" = ["", "fsdp", "tensor"], '
          '"layers/mlp_out/kernel" = ["", "tensor", "fsdp"]}']
SHAPES = {'layers': {'kernel': jax.ShapeDtypeStruct((2, 6, 8), np.float32),
                     'bias': jax.ShapeDtypeStruct((2, 8), np.float32)},
          'embedding': jax.ShapeDtypeStruct((27, 4), np.float32)}


def small(rules=None, size=8, **mesh):
  return layout.make(schema.Mesh(**mesh), {
      glob: schema.Run(sharding={glob: spec}).sharding[glob]
      for glob, spec in (rules or {}).items()}, {'layers/*': 0}, size)


@pytest.mark.parametrize(('set_', 'words'), [
    ('run.mesh.tensor=0', 'takes a number of devices'),
    ('run.mesh={data=-1, fsdp=-1}', r'only one of data, fsdp and tensor'),
    ('run.sharding={"*" = ["fdsp"]}', "'fdsp'; the nearest known name is 'f"),
    ('run.sharding={"*" = ["fsdp", "fsdp"]}', 'fsdp can cut one axis only'),
    ('run.sharding={"*" = "fsdp"}', 'takes a list')])
def test_tables(set_, words):
  with pytest.raises(lab.LabError, match=words) as caught:
    lab.load(DECODER, [set_])
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(('mesh', 'rules', 'size', 'words'), [
    ({'data': 16}, {}, 16, r'data = 16: 16 devices are needed, and there are '),
    ({'data': 3, 'fsdp': -1}, {}, 12, r'3 does not divide the 8 devices'),
    ({'data': -1}, {}, 12, r'data x fsdp = 8 does not divide the 12 examples'),
    ({'fsdp': 2}, {'layer/*': ['fsdp']}, 8, "'layer/.' matches no parameter"),
    ({'fsdp': 4}, {'*/kernel': ['', 'fsdp']}, 8,
     r"on 'layers/kernel': fsdp \(4 devices\) does not divide axis 1 of \(2, "),
    ({'fsdp': 2}, {'*bias': ['', '', 'fsdp']}, 8,
     "on 'layers/bias': names 3 axes, and the parameter has 2")])
def test_what_does_not_fit_is_one_line(mesh, rules, size, words):
  with pytest.raises(lab.LabError, match=words) as caught:
    small(rules, size, **mesh).specs(SHAPES)
  assert '\n' not in str(caught.value)


def test_where_arrays_lie():
  """Longest axes over fsdp, never the stack's; the state as its parameter."""
  state = {'params': SHAPES, 'mu': SHAPES, 'count': jax.ShapeDtypeStruct(
      (), np.int32), 'rows': {'layers': {'kernel': jax.ShapeDtypeStruct(
          (2, 6), np.float32)}}}
  found = small({'*/kernel': ['', 'tensor', ['fsdp']]}, fsdp=4, tensor=2)
  lies = jax.tree.map(lambda s: s.spec, found.shardings(state, SHAPES))
  want = {'layers': {'kernel': P(None, 'tensor', 'fsdp'), 'bias': P()},
          'embedding': P(None, 'fsdp')}
  assert lies == {'params': want, 'mu': want, 'count': P(),
                  'rows': {'layers': {'kernel': P()}}}


def test_rows_that_do_not_come_out_even():
  lies = small(data=2, fsdp=4)
  found = lies.put(np.arange(11), rows=True)
  np.testing.assert_array_equal(found, [*range(11), *range(5)])
  assert found.sharding.spec == P(('data', 'fsdp'))


@pytest.fixture(scope='module')
def trainers():
  """(one device, 2 x 2 x 2), each with its state after fifty steps."""
  found = []
  with jax.numpy_dtype_promotion('standard'), jax.numpy_rank_promotion('allow'):
    for set_ in ([], SPREAD):
      trainer = compiled_run.Trainer(lab.load(DECODER, set_))
      found.append((trainer, *trainer.chunk(trainer.start())))
  return found


def test_fifty_steps_equal_those_on_one_device(trainers):
  (_, one, want), (spread, state, got) = trainers
  np.testing.assert_allclose(got.loss, want.loss, rtol=1e-5)
  # Of keys' biases the gradient is nothing but rounding, which Adam enlarges.
  np.testing.assert_allclose(
      state.params['layers']['mlp_in']['kernel'],
      one.params['layers']['mlp_in']['kernel'], atol=1e-4)
  # Where it began it lies still, the moments with their parameters.
  lies = jax.tree.map(lambda a: a.sharding, state)
  assert jax.tree.all(jax.tree.map(
      lambda a, b, leaf: a.is_equivalent_to(b, leaf.ndim), lies,
      spread.shardings, state))
  kernel = state.opt_state[1][0].mu['layers']['mlp_in']['kernel']
  assert kernel.addressable_shards[0].data.shape == (2, 4, 16)


def test_a_checkpoint_goes_on_on_another_mesh(trainers, tmp_path):
  (one, alone, _), (_, spread, _) = trainers
  store = Checkpoints(tmp_path, 1)
  store.save(50, spread, 0.5)
  like = jax.eval_shape(lambda: alone)
  other = layout.make(schema.Mesh(fsdp=4), {}, {'layers/*': 0}, 8)
  lies = other.shardings(like, like.params)
  for target in (alone, like, jax.tree.map(
      lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s), like,
      lies)):
    found = store.restore(50, target)
    jax.tree.map(np.testing.assert_array_equal, found, spread)
  assert jax.tree.all(jax.tree.map(
      lambda a, s: a.sharding == s, found, lies))
  store.close()


METHODS = {
    **{name: {'optimizer': name} for name in registry.OPTIMIZERS},
    **{name: {'optimizer': 'sgd', 'normalize': name}
       for name in registry.NORMALIZERS},
    **{name: {'optimizer': 'adam', 'wrap': name}
       for name in registry.WRAPPERS},
    'lookahead': {'optimizer': 'sing', 'lookahead': 2}}


@pytest.mark.parametrize('name', METHODS)
def test_every_method(name):
  """Two steps of a small net, by accumulated parts and by evaluation."""
  config = {
      'data': {'source': 'iris'},
      'models': {'net': {'kind': 'mlp', 'depth': 1, 'width': 8}},
      'methods': {name: METHODS[name]},
      'train': {'steps': 2, 'eval_every': 2, 'batch_size': 16,
                'accumulate': 2},
      'run': {'look': 0}}
  losses = []
  for set_ in ([], ['run.mesh.data=2', 'run.mesh.fsdp=4']):
    trainer = compiled_run.Trainer(lab.load(config, set_))
    state, figures = trainer.chunk(trainer.start())
    losses.append([*figures.loss, *figures.gradient,
                   *map(np.linalg.norm, jax.tree.leaves(state.params))])
  np.testing.assert_allclose(*losses, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize('method', [
    {'optimizer': 'sgd', 'sampling': {'size': 4, 'rule': 'random'}},
    {'optimizer': 'sgd', 'pascanu': 1.0}], ids=['sampling', 'pascanu'])
def test_methods_that_look_through_time(method):
  config = {
      'data': {'source': 'long_dependency', 'length': 12,
               'sizes': [32, 16, 16]},
      'models': {'srn': {'kind': 'recurrent', 'width': 4}},
      'methods': {'one': method},
      'train': {'steps': 2, 'eval_every': 2, 'batch_size': 16},
      'run': {'look': 0}}
  losses = []
  for set_ in ([], ['run.mesh.data=4']):
    trainer = compiled_run.Trainer(lab.load(config, set_))
    losses.append(trainer.chunk(trainer.start())[1].loss)
  np.testing.assert_allclose(*losses, rtol=1e-5)


def test_a_method_that_the_model_does_not_suit_is_refused_in_a_line():
  refused = {**DECODER, 'methods': {'path': {'optimizer': 'path_sgd'}}}
  for set_ in ([], SPREAD):
    with pytest.raises(lab.LabError, match=r'\[methods.path\] on \[models.decod'
                       'er.*paths start at real-valued inputs'):
      compiled_run.Trainer(lab.load(refused, set_))
