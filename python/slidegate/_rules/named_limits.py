"""Limits by their names, as settings and the environment have them, and as they are changed while requests come in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from .._core import Quota
from .._support.errors import ConfigurationError
from .._support.fork import ForkableLock
from .limit import Limit
from .limit_group import LimitGroup, nobody
from .notation import warn_of_amounts

Mode: TypeAlias = Literal["enforce", "shadow", "off"]
_MODES: tuple[Mode, ...] = ("enforce", "shadow", "off")
_MODE_SUFFIX = "_MODE"
_MOST_PREVIOUS = 4


class Setting(NamedTuple):
    """What is configured for a limit; None for what is left as declared. `where` names the variable or the call."""

    where: str
    text: str | None = None
    mode: Mode | None = None


class NamedLimits:
    """The limits of one limiter that have names. Later ones of these win: the code, the settings object, the
    environment, `set`. Thread-safe; `revision` rises with every change.

    Variables are read when a limit of their name is declared; others with the prefix may be of the program's own.
    """

    def __init__(self, settings: object, env_prefix: str | None, variables: Mapping[str, str]) -> None:
        self.revision = 0
        self._lock = ForkableLock()
        self._settings = settings
        self._prefix = env_prefix
        self._declared: dict[str, LimitGroup] = {}
        self._changed: dict[str, Setting] = {}
        self._previous: dict[str, tuple[tuple[Limit, ...], ...]] = {}
        self._variables: dict[str, str] = {}
        if env_prefix is not None:
            if not re.fullmatch(r"\w+", env_prefix):
                raise ConfigurationError(f'env_prefix={env_prefix!r} begins no variable; write such as "LLM_RATE_"')
            self._variables = {
                name: value for name, value in variables.items() if name.startswith(env_prefix) and value
            }

    def declare(self, group: LimitGroup, where: str) -> None:
        """Takes up that a limit is there. Of several with one name the last one is what `set` changes."""
        if group.name is not None:
            setting = self.setting(group.name, where)
            if setting.text is not None:
                group.reads(setting.text, setting.where)
                warn_of_amounts(setting.text, setting.where, group.strategy)
            self._declared[group.name] = group

    def text_of(self, name: str | None, where: str) -> str:
        """The notation that is configured for a limit. Raises ConfigurationError, which says how to, without one."""
        text = None if name is None else self.setting(name, where).text
        if text is None:
            variable = self.variable_of(name or "", where)
            if self._prefix is None and self._settings is None:
                raise ConfigurationError(
                    f'{where}: nothing says what its limit is; write Limiter(env_prefix="APP_") and set'
                    f' APP_{variable}="10/minute", or give it a limit, as in RateLimit("10/minute", name={name!r})'
                )
            told = self._told(variable.lower()) if self._prefix is None else f"{self._prefix}{variable}"
            raise ConfigurationError(f'{where}: settings have no limit of that name; set {told}="10/minute"')
        return text

    def variable_of(self, name: str, where: str) -> str:
        """What the limit is called in the environment, without the prefix."""
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w.-]*", name, re.ASCII):
            raise ConfigurationError(f'{where}: name={name!r} is none; write letters, digits, "-" and "_"')
        variable = re.sub(r"[.-]", "_", name).upper()
        if variable == "ENABLED" or variable.endswith(_MODE_SUFFIX):
            raise ConfigurationError(f"{where}: name={name!r} is what switches are called; choose another")
        return variable

    @property
    def unused(self) -> list[str]:
        """The variables that name no limit."""
        known = {f"{self._prefix}{self.variable_of(name, '')}" for name in self._declared}
        known |= {f"{each}{_MODE_SUFFIX}" for each in known} | {f"{self._prefix}ENABLED"}
        return sorted(self._variables.keys() - known)

    def setting(self, name: str, where: str = "") -> Setting:
        """What holds for the limit now."""
        variable = self.variable_of(name, where)
        found = [self._from_settings(variable), self._from_environment(variable), self._changed.get(name)]
        settings = [each for each in found if each is not None]
        text = next((each for each in reversed(settings) if each.text is not None), Setting(where))
        mode = next((each.mode for each in reversed(settings) if each.mode is not None), None)
        return Setting(text.where, text.text, mode)

    def applied(self, group: LimitGroup) -> LimitGroup | None:
        """The group as it is configured now; None when it is switched off."""
        if group.name is None:
            return group
        setting = self.setting(group.name, group.name)
        if setting.mode == "off":
            return None
        if setting.text is not None:
            group = group.copied(limits=group.reads(setting.text, setting.where), read_limits=None)
        group = self._carrying(group)
        return group if setting.mode is None else group.copied(is_shadow=setting.mode == "shadow")

    def set(self, name: str, text: str | None, mode: Mode | None) -> None:
        """Changes a limit that was declared. Raises ConfigurationError."""
        where = f"set_limit({name!r})"
        group = self._declared.get(name)
        if group is None:
            known = ", ".join(sorted(self._declared)) or "none"
            raise ConfigurationError(f"{where}: no limit of that name was declared; there are: {known}")
        if mode is not None:
            _mode_in(mode, f"{where} mode")
        before = self.applied(group.copied(is_shadow=False)) if text is not None else None
        with self._lock:
            if text is not None:
                group.reads(text, where)
                warn_of_amounts(text, where, group.strategy)
                if before is not None and before.limits and not _is_same(before.limits, group.reads(text, where)):
                    earlier = [each for each in self._previous.get(name, ()) if not _is_same(each, before.limits)]
                    self._previous[name] = (before.limits, *earlier)[:_MOST_PREVIOUS]
            setting = self._changed.get(name, Setting(where))
            self._changed[name] = Setting(where, text or setting.text, mode or setting.mode)
            self.revision += 1

    def known(self) -> list[str]:
        """The names that were declared."""
        return sorted(self._declared)

    def _carrying(self, group: LimitGroup) -> LimitGroup:
        before = self._previous.get(group.name or "", ())
        if not before or group.limits is None:
            return group
        for limit in group.limits:
            found = (_counterpart(limit, group.limits, limits) for limits in before)
            quotas = dict.fromkeys(each for each in found if each is not None and each != limit.quota)
            limit.previous = tuple(quotas)
        return group

    def _from_environment(self, variable: str) -> Setting | None:
        name = f"{self._prefix}{variable}"
        mode_name = name + _MODE_SUFFIX
        return _setting_of(self._variables.get(name), self._variables.get(mode_name), name, mode_name)

    def _from_settings(self, variable: str) -> Setting | None:
        field = variable.lower()
        mode_field = field + _MODE_SUFFIX.lower()
        return _setting_of(self._field(field), self._field(mode_field), self._told(field), self._told(mode_field))

    def _field(self, name: str) -> Any:
        if isinstance(self._settings, Mapping):
            return self._settings.get(name, self._settings.get(name.replace("_", "-")))
        return getattr(self._settings, name, None)

    def _told(self, field: str) -> str:
        # Settings of pydantic know the variables that they come from.
        config = getattr(type(self._settings), "model_config", {})
        prefix = config.get("env_prefix") if isinstance(config, Mapping) else None
        named = "settings" if isinstance(self._settings, Mapping) else type(self._settings).__name__
        return f"{named}.{field}" if prefix is None else f"{prefix}{field}".upper() + f" ({named}.{field})"


def _setting_of(value: object, mode: object, where: str, mode_where: str) -> Setting | None:
    text: str | None = None
    given = None if mode is None else _mode_in(mode, mode_where)
    if isinstance(value, str) and value in _MODES:
        given = given or _mode_in(value, where)
    elif value is not None:
        _check_notation(value, where)
        text = str(value)
    return None if value is None and mode is None else Setting(where, text, given)


def _check_notation(text: object, where: str) -> None:
    # By a strategy that counts what the others do; what the limiter's own cannot is found when it is declared.
    LimitGroup(text, nobody, None, False, None, None, None, 1, False, where=where)  # type: ignore[arg-type]


def _is_same(one: tuple[Limit, ...], other: tuple[Limit, ...]) -> bool:
    return [(each.refuses_all, each.quota) for each in one] == [(each.refuses_all, each.quota) for each in other]


def _mode_in(value: object, where: str) -> Mode:
    if value not in _MODES:
        raise ConfigurationError(f"{where}={value!r} is none of {', '.join(_MODES)}")
    return next(mode for mode in _MODES if mode == value)


def _counterpart(limit: Limit, now: tuple[Limit, ...], before: tuple[Limit, ...]) -> Quota | None:
    """The quota that the limit has taken the place of: the one of its window, or the only one."""
    counted = [each for each in before if not each.refuses_all]
    if len(now) == len(before) == 1:
        return counted[0].quota if counted else None
    window_s = limit.limit.get_expiry()
    return next((each.quota for each in counted if each.limit.get_expiry() == window_s), None)
