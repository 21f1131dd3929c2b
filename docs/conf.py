"""How the documentation is built: `make docs`."""

project = "Penstock"
author = "The Penstock developers"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
html_theme = "furo"
html_title = "Penstock"
html_show_copyright = False
nitpicky = False
autodoc_typehints = "none"
exclude_patterns = ["_build"]
