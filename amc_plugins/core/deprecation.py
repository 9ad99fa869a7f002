"""`deprecated`, for what is going away: PEP 702, with words of our own in the reference."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typing_extensions

__all__ = ["deprecated"]

if TYPE_CHECKING:  # type checkers know this one, and show what is marked with it
    from typing_extensions import deprecated
else:

    def deprecated(message, *, category=DeprecationWarning):
        """Mark a function, method or class that is going away, in favour of another.

        A call warns where it is made, and type checkers show it: `@deprecated("use `keep_at_least` instead")`.

        Args:
            message: what to use instead.
            category: of the warning; a `FutureWarning` is shown to users who write no code, too.
        """
        return typing_extensions.deprecated(message, category=category)
