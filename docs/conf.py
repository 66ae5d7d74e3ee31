"""Sphinx: Markdown pages, the Python reference from docstrings, commands from their help."""

import re
from pathlib import Path
from typing import Any

import typer
from typer.cli import get_docs_for_click

import vqasr
from vqasr.cli.commands import app

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/vqasr/vqasr/blob/main"

project = "vqasr"
author = "The vqasr developers"
version = release = vqasr.__version__
html_title = f"vqasr {version}"
html_theme = "furo"
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build"]
myst_heading_anchors = 3
default_role = "literal"
suppress_warnings = ["myst.header"]
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_class_signature = "mixed"
autodoc_inherit_docstrings = False
python_maximum_signature_line_length = 88


def setup(sphinx: Any) -> None:
    sphinx.connect("source-read", _fill)


def _fill(sphinx: Any, name: str, source: list[str]) -> None:
    """Fill the overview with the README, and the page of commands with their help."""
    if name == "index":
        source[0] = _readme() + source[0]
    elif name == "cli":
        command = typer.main.get_command(app)
        context = typer.Context(command, info_name="vqasr")
        source[0] = get_docs_for_click(obj=command, ctx=context, name="vqasr", title="Commands")


def _readme() -> str:
    """Return README.md with links that hold inside the site."""
    text = (ROOT / "README.md").read_text().replace("](docs/", "](")
    outside = r"\]\(((?:recipes|adapters|vqasr)(?:/[^)]*)?|[A-Z]+(?:\.\w+)?)\)"
    return re.sub(outside, rf"]({REPOSITORY}/\1)", text)
