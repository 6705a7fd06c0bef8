"""Makes a page of a template: every value escaped, one stylesheet, nothing from a network."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

TEMPLATES = Path(__file__).parent / "templates"


@functools.cache
def _environment() -> "jinja2.Environment":
    import jinja2
    from markupsafe import Markup

    from vtcc.progress import duration

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    # Our own files, never user text: they go in unescaped.
    environment.globals["own_file"] = lambda name: Markup(
        (TEMPLATES / name).read_text(encoding="utf-8")
    )
    environment.filters["thousands"] = "{:,}".format
    environment.filters["duration"] = duration
    # NaN is no JSON, and a browser reads none of a page's data where there is one.
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    return environment


def render(template: str, **values: object) -> str:
    """A page as HTML, all in one: styles, scripts and images inside.

    Args:
        template: file in `templates/`. values: what it shows; a name that is missing is an error.
    """
    return _environment().get_template(template).render(**values)
