"""The lab's rooms: imports go down their order, and nowhere in a circle."""

import ast
import pathlib

import gradnorm_optax

ROOT = pathlib.Path(gradnorm_optax.__file__).parent
# From the ground up, as docs/architecture.md draws them.
ROOMS = ('support', 'schema', 'objective', 'methods', 'data', 'models',
         'results', 'reporting', 'training', 'run', 'comparison', 'inspection',
         'serving',
         'starter', '__init__', 'cli_reading', 'cli')


def arrows(files):
  """{file: the files that it imports, lazily or not}, for {module: file}."""
  found = {}
  for module, file in files.items():
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
      if isinstance(node, ast.Import):
        names |= {alias.name for alias in node.names}
      elif isinstance(node, ast.ImportFrom):
        assert not node.level, f'{file}: imports are absolute here'
        # A name is a module of the package, or lies in it.
        names |= {whole if (whole := f'{node.module}.{alias.name}') in files
                  else node.module for alias in node.names}
    found[module] = sorted(names & files.keys() - {module})
  return found


def circle(graph):
  """A way through the graph that ends where it began, or None."""
  done = set()

  def visit(here, way):
    if here in way:
      return [*way[way.index(here):], here]
    if here in done:
      return None
    done.add(here)
    return next(filter(None, (
        visit(there, [*way, here]) for there in graph[here])), None)

  return next(filter(None, (visit(start, []) for start in graph)), None)


def modules():
  """{module: file} of the whole package."""
  found = {}
  for file in sorted(ROOT.rglob('*.py')):
    parts = ('gradnorm_optax', *file.relative_to(ROOT).with_suffix('').parts)
    if 'template' not in parts:
      found['.'.join(parts).removesuffix('.__init__')] = file
  return found


def room(module):
  """The lab's room of a module; None outside the lab."""
  parts = module.split('.')[1:]
  if parts[:1] != ['lab']:
    return None
  return parts[1] if len(parts) > 1 else '__init__'


def test_a_circle_is_found():
  assert circle({'a': ['b'], 'b': ['c'], 'c': []}) is None
  assert circle({'a': ['b'], 'b': ['c'], 'c': ['b']}) == ['b', 'c', 'b']


def test_every_arrow_of_the_lab_goes_down():
  files = modules()
  assert {room(module) for module in files} - {None} == set(ROOMS)
  for here, imported in arrows(files).items():
    for there in imported:
      if room(here) is None:
        assert room(there) is None, f'{here} imports {there}, of the lab'
      elif room(there) is not None:
        assert ROOMS.index(room(there)) <= ROOMS.index(room(here)), (
            f'{here} imports {there}, which stands above it')


def test_the_files_of_the_lab_import_each_other_in_no_circle():
  graph = arrows({module: file for module, file in modules().items()
                  if room(module) is not None})
  assert circle(graph) is None
  assert sum(map(len, graph.values())) > 200  # they were read


def test_no_file_is_long():
  lengths = {module: len(file.read_text(encoding='utf-8').splitlines())
             for module, file in modules().items() if room(module) is not None}
  assert max(lengths.values()) <= 300, max(lengths, key=lengths.get)


def test_the_page_of_the_architecture_draws_these_rooms():
  page = (ROOT.parent / 'docs' / 'architecture.md').read_text(encoding='utf-8')
  picture = page.partition('```\n')[2].partition('```')[0]
  drawn = [line.split()[0] for line in picture.splitlines() if line[0] != ' ']
  assert drawn[::-1] == [
      name for name in ROOMS if name not in ('starter', '__init__')]
