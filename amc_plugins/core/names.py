"""Names of nodes, layers and values while a network is being recorded."""

from __future__ import annotations

__all__ = ["Names"]


class Names:
    """Gives out unique names; functions are named after the module that calls them: `<caller path>.<op>_<n>`."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._counts: dict[str, int] = {}
        self._callers: list[str] = []

    def enter(self, path: str) -> None:
        """A module that is not a layer starts to run."""
        self._callers.append(path)

    def leave(self) -> None:
        self._callers.pop()

    @property
    def inside(self) -> bool:
        """Whether a module that is not a layer is running."""
        return bool(self._callers)

    def reserve(self, name: str) -> None:
        self._used.add(name)

    def numbered(self, short: str) -> str:
        """`<caller>.<short>_<n>` with the next free n."""
        caller = self._callers[-1] if self._callers else ""
        return self._next(f"{caller}.{short}_" if caller else f"{short}_", 0)

    def again(self, layer: str) -> str:
        """The node name of a further call of a layer: `<layer>@1`, `<layer>@2`, ..."""
        return self._next(f"{layer}@", 1)

    def unique(self, name: str) -> str:
        """The name itself, or with `#n` when it is taken."""
        if name not in self._used:
            self._used.add(name)
            return name
        return self._next(f"{name}#", 1)

    def _next(self, stem: str, start: int) -> str:
        count = self._counts.get(stem, start)
        while f"{stem}{count}" in self._used:
            count += 1
        self._counts[stem] = count + 1
        self._used.add(f"{stem}{count}")
        return f"{stem}{count}"
