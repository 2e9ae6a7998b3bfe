"""The form of names, as the wire types describe it; ``settings.check_name`` holds it."""

from __future__ import annotations

from typing import Annotated

import msgspec

Name = Annotated[
    str,
    msgspec.Meta(
        extra_json_schema={"pattern": r"^(?!.*\.\.)[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"},
    ),
]
"""1 to 64 of ``a-z 0-9 . _ -``, with a letter or digit first and last, and no two dots in a row.

Described, and not checked when a body is decoded: a name that is none has an error of its own.
"""
