"""The commands that read: what was run, what there is to configure."""

import json
import pathlib
from typing import Annotated, Any

import typer

from gradnorm_optax.lab.support import screen
from gradnorm_optax.lab.support.errors import LabError


def add(app: Any) -> None:
  """Adds them; every heavy import waits for its command."""

  @app.command()
  def runs(folder: Annotated[pathlib.Path, typer.Argument(
      metavar='[DIR]', help='Where to look.')] = pathlib.Path('runs'),
           json_: Annotated[bool, typer.Option(
               '--json', help='For other programs.')] = False) -> None:
    """List comparisons and trainings below a folder: state, verdict, date.

    Example: gradnorm runs
    """
    from gradnorm_optax.lab.run import overview
    found = overview.find(folder)
    if json_:
      print(json.dumps(overview.records(found), indent=1))
      return
    screen.console().print(
        overview.table(found) if found else f'{folder}: no runs')

  @app.command()
  def report(folders: Annotated[list[pathlib.Path], typer.Argument(
      metavar='FOLDER...', help='Finished comparisons, such as runs/demo.')],
             export: Annotated[pathlib.Path | None, typer.Option(
                 help='Also write every trial: .csv or .parquet.')] = None,
             out: Annotated[pathlib.Path, typer.Option(
                 help='The page of several.')] = pathlib.Path(
                     'side_by_side.html')) -> None:
    """Judge a finished comparison again, and draw it again; of several, show
    them side by side.

    Needs neither data nor models: a FOLDER may come from another machine.

    Example: gradnorm report runs/demo --export trials.csv
    """
    from gradnorm_optax.lab.comparison import beside, comparison, trials_file
    console = screen.console()
    if len(folders) > 1:
      if export:
        raise LabError('--export: give one FOLDER')
      console.print(beside.put(folders, out).table())
      console.print(f'\nPage: {out}')
      return
    done = comparison.again(folders[0])
    console.print(done.table())
    console.print(f'\nReport: {done.folder}/report.html')
    if export:
      count = trials_file.write(folders[0], export)
      console.print(f'{count} trials: {export}')

  @app.command()
  def methods() -> None:
    """List the methods that a configuration can name.

    Example: gradnorm methods
    """
    from gradnorm_optax.lab.reporting import methods_table
    screen.console().print(methods_table.render())

  @app.command()
  def keys(section: Annotated[str, typer.Argument(
      metavar='[SECTION]', show_default=False,
      help='Such as train, models.mlp or train.steps; all if not given.')] = '',
           markdown: Annotated[bool, typer.Option(
               '--markdown', help='As a page of the docs.')] = False) -> None:
    """List every key of a configuration: type, default, meaning.

    Example: gradnorm keys train
    """
    from gradnorm_optax.lab.reporting import keys as page
    from gradnorm_optax.lab.schema import keys as lib
    found = lib.select(section) if section else lib.sections()
    if markdown:
      print(page.markdown(found), end='')
      return
    console = screen.console()
    for shown in page.tables(found):
      console.print(shown)
      console.print()
