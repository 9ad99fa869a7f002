"""The machinery of the conformance checks: what a check is, which ones a plugin gets, and how their outcomes are told."""

from __future__ import annotations

import importlib
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from amc_plugins.core.discovery import KINDS, PluginRecord, kind_word
from amc_plugins.core.errors import SettingsError, UnknownPluginError, nearest
from amc_plugins.core.registry import registry
from amc_plugins.core.specs import PluginSpec, Settings

__all__ = ["Check", "DoesNotApply", "Outcome", "Subject", "check", "check_names", "checks_of", "plugin_checks"]

Result = Literal["passed", "failed", "known", "skipped"]

_MODULES = {kind: f"amc_plugins.testing.{kind}" for kind in KINDS}
_COMMON = "amc_plugins.testing.declarations"
_OF_THE_DECLARATION = ("declaration", "light_to_import", "captures_exist")
"""Checks that need no class."""
_TABLE: dict[str, dict[str, Callable[[Any], None]]] = {kind: {} for kind in KINDS}


class DoesNotApply(Exception):  # noqa: N818 - an answer of a check, not an error
    """Raised by a check that proves nothing about this plugin; the message says why."""


class Subject:
    """One plugin under test. The module of each kind's checks derives its own, with what its checks share.

    Args:
        kind: of the plugin.
        name: of the plugin.
        settings: that the plugin runs with in the checks.
    """

    def __init__(self, kind: str, name: str, settings: Mapping[str, Any]) -> None:
        self.kind = kind
        self.name = name
        self.given = dict(settings)

    @cached_property
    def spec(self) -> PluginSpec:
        """The declaration; asking for it loads the light module."""
        return registry().spec(self.kind, self.name)

    @property
    def record(self) -> PluginRecord:
        found = registry().owner(registry().spec(self.kind, self.name))  # `spec` may be from before it was made anew
        assert found is not None, "a declaration of the registry has a record"
        return found

    @property
    def settings_model(self) -> type[Settings]:
        model: type[Settings] = getattr(self.spec, "settings", Settings)
        return model

    @cached_property
    def target(self) -> type[Any]:
        """The class behind the declaration."""
        return registry().target(self.spec)

    @cached_property
    def problem(self) -> str | None:
        """Why the declaration or the class cannot be loaded; None when they can."""
        try:
            _ = self.spec, self.target
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the check `declaration` raises it again
            return f"{type(error).__name__}: {error}"
        return None

    def preferred(self) -> dict[str, Any]:
        """Settings that keep the checks short, for those that the plugin has and the call does not give. Default: none."""
        return {}

    @cached_property
    def settings(self) -> Settings:
        """The validated settings of the checks."""
        wanted = {name: value for name, value in self.preferred().items() if name in self.settings_model.model_fields}
        return registry().create(self.kind, self.name, {**wanted, **self.given})[0]

    def make(self, **changes: Any) -> Any:
        """A new instance of the plugin."""
        settings = self.settings_model.model_validate({**self.settings.model_dump(exclude_unset=True), **changes})
        return self.target(settings)


@dataclass(frozen=True)
class Outcome:
    """What came of one check. `text` is the failure, the reason of a known exception, or why it does not apply."""

    check: Check
    result: Result
    text: str = ""
    error: BaseException | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Check:
    """One check of one plugin. Call it in a test: it raises AssertionError, or skips or expects the failure through pytest."""

    kind: str
    plugin: str
    name: str
    function: Callable[[Any], None] = field(repr=False)
    subject: Subject = field(repr=False)
    reason: str | None = None
    """Why this plugin may fail it."""

    @property
    def proves(self) -> str:
        """What the plugin has shown when it passes: the first paragraph of the check's docstring, on one line."""
        return " ".join((inspect.getdoc(self.function) or "").partition("\n\n")[0].split())

    @property
    def __name__(self) -> str:  # what pytest takes for the id of a parameter
        return f"{self.kind}-{self.plugin}-{self.name}"

    def run(self) -> Outcome:
        """Carry the check out. Raises nothing but KeyboardInterrupt."""
        before = logging.root.manager.disable
        logging.disable(logging.WARNING)  # tiny networks and little data: what plugins remark on them is of no use here
        try:
            return self._run()
        finally:
            logging.disable(before)

    def _run(self) -> Outcome:
        try:
            if self.name not in _OF_THE_DECLARATION:
                assert self.subject.problem is None, "it does not load, as `declaration` explains"
            self.function(self.subject)
        except DoesNotApply as answer:
            return Outcome(self, "skipped", str(answer))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a plugin raises is its failure
            if self._known() is not None:
                return Outcome(self, "known", str(self._known()), error)
            text = str(error) if isinstance(error, AssertionError) else f"raised {type(error).__name__}: {error}"
            return Outcome(self, "failed", text, error)
        if self._known() is not None:
            return Outcome(self, "failed", f"passes, so the known exception is no longer one ({self._known()}): remove it")
        return Outcome(self, "passed")

    def __call__(self) -> None:
        """Raises AssertionError when the check fails; known exceptions are pytest's xfail, what does not apply its skip."""
        outcome = self.run()
        if outcome.result == "failed":
            raise AssertionError(
                f"{kind_word(self.kind)} `{self.plugin}` fails `{self.name}`: {outcome.text}\nthe check: {self.proves}"
            ) from outcome.error
        if outcome.result != "passed":
            import pytest

            (pytest.xfail if outcome.result == "known" else pytest.skip)(outcome.text)

    def _known(self) -> str | None:
        if self.reason is not None:
            return self.reason
        return None if self.subject.problem is not None else self.subject.spec.known_exceptions.get(self.name)


def check(*kinds: str) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """Decorator: the function, named `check_<name>`, is a check of plugins of these kinds."""

    def add(function: Callable[[Any], None]) -> Callable[[Any], None]:
        for kind in kinds:
            _TABLE[kind][function.__name__.removeprefix("check_")] = function
        return function

    return add


def check_names(kind: str) -> list[str]:
    """Names of the checks that plugins of a kind get, in the order in which they run."""
    return list(checks_of(kind))


def plugin_checks(
    name: str, *, kind: str | None = None, settings: Mapping[str, Any] | None = None, known: Mapping[str, str] | None = None
) -> list[Check]:
    """The conformance checks of one plugin, for `pytest.mark.parametrize`::

        @pytest.mark.parametrize("check", plugin_checks("keep-first"))
        def test_conformance(check):
            check()

    Args:
        name: of the plugin, installed or registered with `amc.register`.
        kind: needed only when plugins of several kinds have the name; without it, all of them are checked.
        settings: that it runs with in the checks; the defaults otherwise.
        known: check name -> the reason why the plugin may fail it, beside what its declaration has in `known_exceptions`.
            Such a check must fail: a reason that has gone is an error.

    Raises:
        UnknownPluginError: nothing of that name is installed.
        SettingsError: `known` names a check that there is not.
    """
    found = registry().records()
    kinds = [kind] if kind is not None else list(dict.fromkeys(one.kind for one in found if one.name == name))
    if not kinds:
        raise UnknownPluginError(
            f"there is no plugin `{name}`{nearest(name, {one.name for one in found})}", hint="amc plugins list"
        )
    checks: list[Check] = []
    for one in kinds:
        functions = checks_of(one)
        subject = importlib.import_module(_MODULES[one]).Under(one, name, settings or {})
        checks += [
            Check(one, name, title, function, subject, (known or {}).get(title)) for title, function in functions.items()
        ]
    titles = {one.name for one in checks}
    for title in known or {}:
        if title not in titles:
            raise SettingsError(f"`known` names the check `{title}`, which there is not{nearest(title, titles)}")
    return checks


def checks_of(kind: str) -> dict[str, Callable[[Any], None]]:
    """The checks of a kind by name: first those of every kind."""
    importlib.import_module(_COMMON)
    importlib.import_module(_MODULES[kind])
    return dict(sorted(_TABLE[kind].items(), key=lambda item: item[1].__module__ != _COMMON))
