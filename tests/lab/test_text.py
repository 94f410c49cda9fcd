"""A language model on the user's text, which is mapped and never loaded."""

import jax
import numpy as np
import pytest

from gradnorm_optax import lab
from gradnorm_optax.lab.data import sources, text
from gradnorm_optax.lab.data.dataset import Dataset
from gradnorm_optax.lab.models.transformer import Transformer
from gradnorm_optax.lab.run import compiled_run, loop
from gradnorm_optax.lab.support import provenance

WORDS = 'naïve größe — '


def config(path, **options):
  return {
      'data': {'source': 'text', 'path': str(path), 'length': 8, **options},
      'models': {'decoder': {
          'kind': 'transformer', 'depth': 2, 'width': 8, 'heads': 2,
          'remat': True, 'tie_embeddings': True}},
      'methods': {'adamw': {'optimizer': 'adamw'}},
      'train': {'steps': 8, 'eval_every': 4, 'batch_size': 16,
                'dtype': 'bfloat16'},
      'run': {'look': 1}}


@pytest.fixture
def book(tmp_path):
  """A folder of two files and a hidden one."""
  folder = tmp_path / 'book'
  (folder / 'b').mkdir(parents=True)
  (folder / '.hidden').write_text('no')
  (folder / 'a.txt').write_bytes((WORDS * 30 + '\r\n').encode())
  (folder / 'b' / 'c.txt').write_bytes((WORDS * 20).encode())
  return folder


def load(path, **options):
  return sources.load(lab.load(config(path, **options)).data)


def reference(found: Dataset, codes):
  """The parts are one stretch each, a target the symbol that follows."""
  x = np.concatenate([part.x for part in found[:3]]).ravel()
  y = np.concatenate([part.y for part in found[:3]]).ravel()
  count = (len(codes) - 1) // 8 * 8
  np.testing.assert_array_equal(x, codes[:count])
  np.testing.assert_array_equal(y, codes[1:count + 1])
  assert all(part.x.dtype.kind == 'u' and part.mapped for part in found[:3])


@pytest.mark.parametrize('block', [7, text.BLOCK])
def test_bytes_and_characters(book, block, monkeypatch):
  monkeypatch.setattr(text, 'BLOCK', block)
  whole = (WORDS * 30 + '\r\n' + WORDS * 20)
  reference(load(book), np.frombuffer(whole.encode(), np.uint8))
  found = load(book, alphabet='characters', validation=0.3)
  alphabet = sorted(set(whole))
  reference(found, [alphabet.index(letter) for letter in whole])
  assert found.outputs == found.symbols == len(alphabet)
  assert found.preprocessing.symbols == tuple(alphabet)
  assert f'{len(whole)} characters of book' in found.description
  one = load(book / 'a.txt')
  assert one.train.x.base is not None and one.outputs == 256
  # The digest of a mapped file, taken in blocks, is that of its arrays.
  monkeypatch.setattr(provenance, 'BLOCK', 20)
  small = provenance.data_digest(one[:3])
  monkeypatch.undo()
  assert small == provenance.data_digest([
      np.array(a) for part in one[:3] for a in part[:2]])


@pytest.mark.parametrize(('content', 'options', 'words'), [
    (None, {}, 'does not exist'), (b'', {}, '0 bytes are 0 windows of 8'),
    (b'too short', {}, '9 bytes are 1 windows of 8, too few for three parts'),
    (b'\xff\xfe\xfd' * 99, {'alphabet': 'characters'}, 'not utf-8 text'),
    (b'x' * 99, {'encoding': 'utf-8'}, 'encoding has no meaning with source')])
def test_what_is_no_text_is_one_line(tmp_path, content, options, words):
  path = tmp_path / 'some.txt'
  if content is not None:
    path.write_bytes(content)
  with pytest.raises(lab.LabError, match=words) as caught:
    load(path, **options)
  assert '\n' not in str(caught.value)


def test_streamed_batches_are_those_of_the_memory(book):
  """On a mesh, over an epoch's end, and where a run goes on."""
  streamed = compiled_run.Trainer(lab.load(config(book), [
      'run.mesh={data = 2, fsdp = 2}']))
  state, figures = streamed.chunk(streamed.start())
  again, more = streamed.chunk(state)
  del again
  kept = compiled_run.Trainer(lab.load(config(book)))
  part = kept.dataset.train
  kept.stream, kept.parts = None, (part, *kept.parts[1:])
  state, want = kept.chunk(kept.start())
  _, then = kept.chunk(state)
  assert len(part.y) // 16 < 8  # an epoch ends
  np.testing.assert_allclose(
      [*figures.loss, *more.loss], [*want.loss, *then.loss], rtol=2e-3)
  assert kept.row(state, want, 1.0)['validation_loss'] > 0
  look = kept.look(kept.start())
  assert look is not None and np.isfinite(look.loss).all()


def test_a_whole_run_and_its_use(book, tmp_path):
  file = book / 'a.txt'
  done = lab.train(config(file), out=tmp_path / 'run', quiet=True)
  assert [row['step'] for row in done.rows] == [4, 8]
  assert {leaf.dtype for leaf in jax.tree.leaves(done.params)} == {
      np.dtype('float32')}
  run = lab.load_run(tmp_path / 'run', 'last')
  assert run.predict(np.zeros((2, 8), np.int32)).shape == (2, 8, 256)
  found = lab.inspect(tmp_path / 'run' / 'checkpoints' / '4', batches=1)
  # All examples in memory, the batch of the fifth step.
  trainer, state = loop.restored(tmp_path / 'run', lab.load(config(file)), 4)
  _, figures = trainer.chunk(state)
  np.testing.assert_allclose(found.looks[0].loss, figures.loss[:1], rtol=1e-2)


@pytest.mark.parametrize('scan', [True, False])
def test_tied_and_computed_again(scan):
  x = np.arange(12).reshape(2, 6) % 5
  plain = Transformer(2, 8, 2, 5, scan, 0)
  params = plain.init(jax.random.key(0), x)
  again = Transformer(2, 8, 2, 5, scan, 0, remat=True)

  def loss(net):
    return jax.grad(lambda p: net.apply(p, x).var())(params)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6),
               loss(again), loss(plain))
  tied = Transformer(2, 8, 2, 5, scan, 0, tied=True)
  own = tied.init(jax.random.key(0), x)
  assert 'output' not in own['params']
  assert tied.apply(own, x).shape == (2, 6, 5)
