"""A small example to start from, written by `gradnorm init`."""

import pathlib

from gradnorm_optax.lab.starter import problems
from gradnorm_optax.lab.support import files
from gradnorm_optax.lab.support.errors import LabError, nearest

TEMPLATE = pathlib.Path(__file__).parents[1] / 'template'
DATA = {'csv': 'perceptron', 'pictures': 'convolutional',
        'series': 'recurrent', 'text': 'recurrent'}  # and the model of each
MODELS = ('linen', 'nnx')


def write(folder: pathlib.Path, data: str = 'csv',
          model: str = 'linen') -> list[str]:
  """Writes a configuration, data and a model that work as they are.

  Args:
    folder: A new one.
    data: One of `DATA`.
    model: What the model is written in, one of `MODELS`.

  Returns:
    The files and folders that were written, then what to do next.

  Raises:
    LabError: One of the files exists; nothing is written then.
  """
  for given, known, name in ((data, DATA, 'data'), (model, MODELS, 'model')):
    if given not in known:
      raise LabError(f'--{name} {given}: unknown{nearest(given, known)}')
  content: dict[str, str | bytes] = {
      source.name: source.read_text(encoding='utf-8')
      for source in sorted((TEMPLATE / data).iterdir()) if source.is_file()}
  net = TEMPLATE / 'models' / f'{DATA[data]}_{model}.py'
  content['my_model.py'] = net.read_text(encoding='utf-8')
  content |= problems.MADE[data]()
  shown = dict.fromkeys(name.partition('/')[0] for name in content)
  for name in shown:
    if (folder / name).exists():
      raise LabError(f'{folder / name} exists; give another folder')
  for name, text in content.items():
    path = folder / name
    try:
      path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
      raise LabError(f'{path.parent}: cannot write ({error.strerror})'
                     ) from error
    files.write(path, text)
  config = folder / 'config.toml'
  new = {'csv': str(folder / 'new.csv'), 'pictures': str(folder / 'new'),
         'series': 'my_data:new', 'text': str(folder / 'new.txt')}[data]
  run = f'runs/{folder.resolve().name}-train'
  return [*(str(folder / name) for name in shown), '',
          f'Next: gradnorm check {config}, then gradnorm compare {config}',
          f'Then: gradnorm train {config}, and '
          f'gradnorm predict {run} {new} -o answers.csv']
