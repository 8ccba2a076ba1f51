"""From a template and its values to HTML: the one way in which every page is made."""

from __future__ import annotations

import functools

import jinja2


def html(page: str, /, **values: object) -> str:
    """Return the HTML of `templates/<page>.html.j2`; text is escaped.

    Raises:
        jinja2.UndefinedError: The template asks for a value that is not given.
    """
    return _environment().get_template(f"{page}.html.j2").render(values)


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("capstan.replay.pages"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
