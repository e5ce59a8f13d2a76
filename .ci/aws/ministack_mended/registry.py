"""The list of mends: functions that change MiniStack in this process, and say what is wrong, what AWS does, and where
AWS says so.
"""

from collections.abc import Callable
from types import ModuleType
from typing import Any

# What the mends were written against. They reach into its insides, so that any other version needs the canaries first.
MINISTACK_VERSION = "1.5.33"

# In the order in which they are applied: a later one wraps what an earlier one put in place.
MENDS: dict[str, Callable[[], None]] = {}


class MendDoesNotFit(Exception):
    """What a mend is to replace is not there in this MiniStack."""


def mend(name: str) -> Callable[[Callable[[], None]], Callable[[], None]]:
    """Registers a mend under the name that `--without` and the canaries use."""

    def register(apply: Callable[[], None]) -> Callable[[], None]:
        if name in MENDS:
            raise ValueError(f"two mends are called {name}")
        MENDS[name] = apply
        return apply

    return register


def replace(module: ModuleType, attribute: str, wrap: Callable[[Any], Any]) -> None:
    """Puts `wrap(original)` in place of a module's function."""
    original = getattr(module, attribute, None)
    if original is None:
        raise MendDoesNotFit(f"{module.__name__} has no {attribute}")
    setattr(module, attribute, wrap(original))


def summary(name: str) -> str:
    """The first sentence of a mend's docstring, in one line."""
    return " ".join((MENDS[name].__doc__ or "").split("\n\n")[0].split())
