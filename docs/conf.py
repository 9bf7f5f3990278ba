"""Sphinx settings. `tools/docs.py` copies this folder, adds what the notebooks hold, and runs Sphinx there."""

from pathlib import Path
from xml.etree import ElementTree

from docutils.utils.math import latex2mathml

project = "algo_research"
author = "algo_research contributors"
extensions = ["myst_nb"]
exclude_patterns = ["**/.ipynb_checkpoints"]
language = "en"

# Notebooks are shown with the outputs they were committed with.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_render_markdown_format = "gfm"
nb_merge_streams = True
nb_code_prompt_show = "Source"
nb_code_prompt_hide = "Source"
myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath", "fieldlist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

html_theme = "pydata_sphinx_theme"
html_title = "algo_research"
html_static_path = ["_static"]
html_search_scorer = str(Path(__file__).parent / "_static" / "scorer.js")
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_show_sourcelink = False
html_copy_source = False
html_favicon = "_static/favicon.svg"
html_theme_options = {
    "logo": {"text": "algo_research"},
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": {
        "**": ["page-toc"],
        "index": [],
        "explanation/road": [],
        "explanation/reproducibility": [],
        "explanation/foreign": [],
        "explanation/architecture": [],
    },
    "footer_start": ["copyright"],
    "footer_center": [],
    "footer_end": [],
    "pygments_light_style": "tango",
    "pygments_dark_style": "github-dark",
    "back_to_top_button": False,
}
html_context = {"default_mode": "auto"}
html_sidebars = {"index": [], "changelog": [], "contributing": [], "search": []}
copyright = "algo_research contributors, Apache-2.0"


def _mathml(tex: str, block: bool) -> str:
    """docutils' translation; it sets the index of an accented letter below the letter, here it goes to its foot."""
    root = ElementTree.fromstring(
        latex2mathml.tex2mathml(tex, as_block=block)
        .replace("&ApplyFunction;", "\u2061")
        .replace(' xmlns="http://www.w3.org/1998/Math/MathML"', "")
    )
    for node in list(root.iter("munderover")):
        base, index, accent = node
        if accent.get("stretchy") == "false" and base.tag == "mi":
            node.tag = "msub"
            node[:] = [ElementTree.Element("mover", accent="true"), index]
            node[0][:] = [base, accent]
    return ElementTree.tostring(root, encoding="unicode")


def visit_math(translator, node) -> None:
    """Formulas as MathML, which browsers show without a library."""
    from docutils import nodes

    translator.body.append(f'<span class="math">{_mathml(node.astext(), False)}</span>')
    raise nodes.SkipNode


def visit_math_block(translator, node) -> None:
    """The same, on a line of its own."""
    from docutils import nodes

    translator.body.append(f'<div class="math">{_mathml(node.astext(), True)}</div>')
    raise nodes.SkipNode


def load_figures(app, pagename, templatename, context, doctree) -> None:
    """Only pages with plotly figures load its library."""
    if "plotly-figure" in context.get("body", ""):
        app.add_js_file("plotly.min.js")
        app.add_js_file("figures.js")


def setup(app) -> dict:
    """Called by Sphinx."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    app.connect("html-page-context", load_figures)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
