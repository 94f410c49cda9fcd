"""Sphinx's configuration of the site; CONTRIBUTING.md says how to build it."""

import pathlib
import sys
from importlib import metadata

sys.path.insert(0, str(pathlib.Path(__file__).parent / '_ext'))

project = 'gradnorm_optax'
author = 'The gradnorm_optax authors'
copyright = f'2026, {author}'  # Sphinx's own name
release = version = metadata.version('gradnorm_optax')

extensions = [
    'myst_nb',
    'sphinx.ext.autodoc',
    'sphinx.ext.autosummary',
    'sphinx.ext.napoleon',
    'sphinx_copybutton',
    'mathml',
]
exclude_patterns = ['_build', 'figures']
html_math_renderer = 'mathml'
html_static_path = ['_static']
html_css_files = ['site.css']
nitpicky = False

html_theme = 'sphinx_book_theme'
html_title = 'gradnorm_optax'
html_theme_options = {
    'show_toc_level': 2,
    'use_download_button': False,
    'home_page_in_toc': True,
}
html_copy_source = False

myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence']
myst_heading_anchors = 3
nb_execution_mode = 'off'  # .ci/run executes the notebooks
nb_execution_show_tb = True

autosummary_generate = True
autosummary_imported_members = True
autodoc_member_order = 'bysource'
autodoc_typehints = 'description'
autodoc_typehints_description_target = 'documented'
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
add_module_names = False
python_use_unqualified_type_names = True
copybutton_prompt_text = r'>>> |\.\.\. |\$ '
copybutton_prompt_is_regexp = True
