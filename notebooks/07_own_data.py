# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/OWNER/gradnorm_optax/blob/main/notebooks/07_own_data.ipynb)
#
# # Your own data: from a CSV to a decision
#
# A table as it comes out of a department, and the question whether one of five
# methods is worth adopting for it. The lab answers by a small proof of concept:
# every method searches its learning rate on one grid, fresh seeds and examples
# that chose nothing judge. On the command line it is `gradnorm check`, `compare`,
# `train`, `predict` and `export`; here the same from Python.
#
# A minute or two on two CPU cores. Put your own file in the place of this one.

# %%
# Does nothing where the library is installed. Elsewhere (Colab) it installs it:
# from the checkout around this notebook, or from SOURCE (or a wheel of yours).
SOURCE = 'gradnorm_optax[lab] @ git+https://github.com/OWNER/gradnorm_optax'

import importlib.util
import pathlib
import subprocess
import sys

if importlib.util.find_spec('gradnorm_optax') is None:
  checkout = pathlib.Path('../pyproject.toml').exists()
  subprocess.run([sys.executable, '-m', 'pip', 'install', '-q',
                  '..[lab]' if checkout else SOURCE], check=True)

# %%
import os
import tempfile

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from sklearn import datasets

from gradnorm_optax import lab

SMOKE = os.environ.get('SMOKE') == '1'  # seconds, for the tests
WORK = pathlib.Path(tempfile.mkdtemp())  # everything is written here
plt.rcParams.update({'figure.dpi': 80, 'font.size': 11, 'axes.grid': True,
                     'grid.alpha': 0.3})

# %% [markdown]
# ## A table with dirt in it
#
# Scikit-learn's 569 biopsies, spoiled a little: a number for each patient, a
# column of names, cells without a value in two spellings, one with a typing
# error. Sixty rows are kept back; the lab does not see them.

# %%
loaded = datasets.load_breast_cancer(as_frame=True)
rng = np.random.default_rng(0)
table = loaded.data.copy().round(4).astype(object)
table.insert(0, 'patient', np.arange(1, len(table) + 1) + 41_000)
table['clinic'] = rng.choice(['North', 'South', 'East'], len(table))
table['finding'] = loaded.target_names[loaded.target]
for column, spelling in (('mean radius', 'n/a'), ('worst area', 'unknown')):
  table.loc[rng.random(len(table)) < 0.05, column] = spelling
table.loc[17, 'mean texture'] = '18,O4'

shuffled = table.sample(frac=1, random_state=0)
known, kept_back = shuffled.iloc[60:], shuffled.iloc[:60]
known.to_csv(WORK / 'biopsies.csv', index=False)
kept_back.drop(columns='finding').to_csv(WORK / 'new.csv', index=False)
known.iloc[:3, [0, 1, 2, 3, -2, -1]]

# %% [markdown]
# ## All mistakes at once
#
# A first configuration is seldom right. `lab.check` reads everything, trains
# nothing, and lists every mistake with its mend.

# %%
CONFIG = {
    'name': 'biopsies',
    'data': {'source': 'file', 'path': str(WORK / 'biopsies.csv'),
             'label': 'finding'},
    'models': {'deep': {'kind': 'mlp', 'depth': 8, 'width': 32,
                        'activation': 'sigmoid'}},
    'methods': {'adam': {'optimizer': 'adam'},
                'bng': {'optimizer': 'adam', 'normalize': 'bng'},
                'sing': {'optimizer': 'sing'},
                'weight_norm': {'optimizer': 'adam',
                                'wrap': 'weight_normalized'}},
    'train': {'steps': 60 if SMOKE else 300, 'batch_size': 32,
              'eval_every': 20},
    'compare': {'learning_rates': [3e-4, 1e-3, 1e-2, 1e-1], 'tune_seeds': 2,
                'seeds': 2 if SMOKE else 8, 'target': 0.9},
}
try:
  lab.check(CONFIG, measure=False)
except lab.LabError as error:
  mistakes = str(error).replace(f'{WORK}/', '')
  print(mistakes)

# %%
CONFIG['data'] |= {
    'ignore': ['patient'], 'categorical': ['clinic'], 'missing': 'median',
    'na_values': ['unknown', '18,O4']}
checked = lab.check(CONFIG, measure=False)
checked.table()

# %% [markdown]
# ## The comparison
#
# Four methods, four rates, fresh seeds for the figures. All it writes is in one
# folder, `report.html` for those who decide among it; started again it goes on
# where it was stopped.

# %%
found = lab.compare(CONFIG, out=WORK / 'compare', quiet=True)
found.table()

# %%
fig, (left, right) = plt.subplots(1, 2, figsize=(10.5, 4), layout='constrained')
for row, marker in zip(found.summary.rows, 'os^v', strict=True):
  left.semilogx([point.rate for point in row.sensitivity],
                [point.score for point in row.sensitivity], marker=marker,
                label=row.method)
  curves = np.array([run.curve for run in row.runs])
  right.plot(CONFIG['train']['eval_every'] * np.arange(1, curves.shape[1] + 1),
             np.median(curves, axis=0), label=row.method)
left.set(title='Which rate?', xlabel='learning rate',
         ylabel='score on the validation part')
right.set(title='How fast? (median of the fresh seeds)', xlabel='step',
          ylabel='score on the validation part')
legend = fig.legend(*left.get_legend_handles_labels(), ncols=4,
                    loc='outside lower center')
verdict, = found.summary.verdicts
print(verdict.text)

# %% [markdown]
# ## Train what was decided, and use it
#
# "No difference" is an answer, too: nothing is adopted, and the simpler method
# stays. (A step's time is worth reading on a quiet machine only.)
#
# The run keeps how examples are prepared (medians, names, means, scales) beside
# its checkpoints, so a new file is read as the training data were.

# %%
best = max(found.summary.rows, key=lambda row: row.tuned)
chosen = verdict.choice or best.method
rate = next(row.rate for row in found.summary.rows if row.method == chosen)
run_options = {'method': chosen, 'learning_rate': float(rate)}
trained = lab.train({**CONFIG, 'run': run_options}, out=WORK / 'run', quiet=True)
model = lab.load_run(WORK / 'run')
print(f'{chosen} at rate {rate:g}: best checkpoint at step {model.step}, '
      f'test part {trained.test["score"]:.1%} right')


steps = [row['step'] for row in trained.rows]
fig, axis = plt.subplots(figsize=(7.5, 4), layout='constrained')
for name, key in (('batches', 'loss'), ('validation', 'validation_loss')):
  axis.plot(steps, [row[key] for row in trained.rows], label=name)
axis.axvline(model.step, color='black', linestyle=':', label='best checkpoint')
axis.set(title=f'The run with {chosen}', xlabel='step', ylabel='loss (nats)')
legend = axis.legend()

# %% [markdown]
# What did the method do to the gradient? The run looked at its blocks on the way.
# With Adam alone, what reaches the moments is the gradient: one line covers the
# other. Behind `bng` it would lie on one.

# %%
look = trained.look
fig, axis = plt.subplots(figsize=(7.5, 4), layout='constrained')
for name, norms in (('gradient', look.gradient), ('moments', look.after),
                    ('update', look.update)):
  axis.semilogy(look.blocks, norms[-1], marker='o', label=name)
axis.set(title=f'Norms by layer at step {look.steps[-1]}',
         xlabel='layer', ylabel='L2 norm')
axis.tick_params(axis='x', rotation=45)
legend = axis.legend()

# %% [markdown]
# ## Answers for a new file, and a folder to keep
#
# As `gradnorm predict runs/biopsies-train new.csv -o answers.csv` and `gradnorm
# export runs/biopsies-train models/first` on the command line. `export` writes
# the weights, the forward pass as a program that needs neither Flax nor this
# library, and a model card that says how to roll back.

# %%
for arguments in (
    ['predict', WORK / 'run', WORK / 'new.csv', '-o', WORK / 'answers.csv'],
    ['export', WORK / 'run', WORK / 'model']):
  subprocess.run(
      [sys.executable, '-m', 'gradnorm_optax.lab.cli', *map(str, arguments)],
      check=True, capture_output=True)
answers = pd.read_csv(WORK / 'answers.csv')
hit = np.mean(
    answers['prediction'].to_numpy() == kept_back['finding'].to_numpy())
print(f'{hit:.1%} right of the {len(answers)} rows that were kept back')
print('exported:', *sorted(path.name for path in (WORK / 'model').iterdir()))
answers.head(3)

# %% [markdown]
# Next: `docs/data.md` for other tables, pictures and sequences, `docs/lab.md` for
# what the interval is about, `gradnorm init DIR` for the files to begin with.
