"""Opens a report in a headless Chromium, as a reader would.

Checks that the page logs no error and asks for nothing, that its tables sort
by number when a heading is clicked, that nothing makes a narrow page wider than
its window, and that no letter of a figure is smaller than 11 pixels there.
Writes screenshots (light, dark, narrow) and a PDF beside it.
"""

import argparse
import html
import json
import pathlib
import re
import shutil
import subprocess
import tempfile
from typing import Any

PROBE = """<script>
const found = {sorted: []};
for (const table of document.querySelectorAll('table:not(.matrix)'))
  for (const head of table.tHead.rows[0].cells) {
    head.firstElementChild.click();
    const at = head.cellIndex;
    const keys = [...table.tBodies[0].rows].map(row => row.cells[at]).map(
      cell => Number.parseFloat((cell.dataset.sort ?? cell.textContent).replace(
        'inf', 'Infinity')));
    const numbers = keys.filter(key => !Number.isNaN(key));
    found.sorted.push(numbers.every((key, i) => !i || numbers[i - 1] <= key)
      && head.getAttribute('aria-sort') === 'ascending');
  }
found.requests = performance.getEntriesByType('resource').filter(
  entry => !entry.name.startsWith('data:')).map(entry => entry.name);
found.svgs = [...document.querySelectorAll('svg')].map(
  svg => [svg.getAttribute('aria-label') !== null, svg.clientWidth > 100]);
found.width = innerWidth;
found.letters = Math.min(...[...document.querySelectorAll('svg text')].map(
  text => Number.parseFloat(getComputedStyle(text).fontSize)
    * text.ownerSVGElement.clientWidth
    / text.ownerSVGElement.viewBox.baseVal.width));
found.overflow = document.documentElement.scrollWidth > innerWidth;
const out = document.createElement('pre');
out.id = 'probe';
out.textContent = JSON.stringify(found);
parent.document.body.append(out);
</script></body>"""


HEIGHT = 9000  # pixels of a screenshot


def chromium(*options: str) -> subprocess.CompletedProcess[str]:
  """Runs the browser once."""
  program = shutil.which('chromium') or shutil.which('google-chrome')
  if program is None:
    raise SystemExit('no Chromium here: apt-get install chromium')
  return subprocess.run(
      [program, '--headless', '--no-sandbox', '--disable-gpu',
       '--hide-scrollbars', '--virtual-time-budget=3000',
       '--enable-logging=stderr', *options],
      capture_output=True, text=True, timeout=120, check=True)


def framed(page: str, height: int = 900) -> str:
  """A page as a telephone shows it: no window of Chromium is so narrow."""
  return (f'<body style="margin: 0"><iframe style="border: 0" width="390" '
          f'height="{height}" srcdoc="{html.escape(page)}"></iframe></body>')


def probe(report: pathlib.Path) -> dict[str, Any]:
  """Returns what the page says of itself after every heading was clicked."""
  with tempfile.TemporaryDirectory() as place:
    copy = pathlib.Path(place) / 'probed.html'
    copy.write_text(framed(report.read_text().replace('</body>', PROBE)))
    done = chromium('--dump-dom', f'file://{copy}')
  match = re.search(r'<pre id="probe">(.*?)</pre>', done.stdout, re.S)
  if match is None:
    raise SystemExit(f'{report}: the page did not run to its end')
  found = json.loads(match[1].replace('&gt;', '>').replace('&amp;', '&'))
  found['console'] = [
      line for line in done.stderr.splitlines() if 'CONSOLE' in line]
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('report', type=pathlib.Path)
  report = parser.parse_args().report.resolve()
  found = probe(report)
  print(json.dumps(found))
  address, folder = f'file://{report}', report.parent
  chromium('--no-pdf-header-footer', f'--print-to-pdf={folder}/report.pdf',
           address)
  with tempfile.TemporaryDirectory() as place:
    telephone = pathlib.Path(place) / 'telephone.html'
    telephone.write_text(framed(report.read_text(), HEIGHT))
    for width, shown in ((1280, address), (390, f'file://{telephone}')):
      for mode, options in (('light', ()), ('dark', ('--force-dark-mode',))):
        chromium(f'--window-size={width},{HEIGHT}', *options,
                 f'--screenshot={folder}/report-{mode}-{width}.png', shown)
  bad = [name for name in ('requests', 'console', 'overflow') if found[name]]
  if not all(found['sorted']):
    bad.append('sorted')
  if not all(map(all, found['svgs'])):
    bad.append('svgs')
  if found['letters'] < 11:  # pixels
    bad.append('letters')
  if bad:
    raise SystemExit(f'{report}: {", ".join(bad)}')


if __name__ == '__main__':
  main()
