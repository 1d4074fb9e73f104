"""The short cut of `Checker.check` for endpoints whose limits are all known beforehand: the same outcome, sooner."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, TypeAlias

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request

from .._core import taker
from .._http.request_doubles import as_request
from .._http.state import COMPLETE, mark, record_of, see
from .._http.view import CurrentLimit
from .._rules.limit_group import LimitGroup
from .._rules.resolver import Hit, Plan
from .._support.callables import Wait
from .._support.errors import StorageFull
from .._support.peer import STOCK_CLIENT
from ..decision import RawDecision
from ..util import get_remote_address
from .checker import Check, Checker

Answer: TypeAlias = tuple[RawDecision, str, str] | tuple[()]
"""About a request that was not admitted: what the engine said of which key and scope; empty when it was not asked."""

_QUICK = "__slidegate_quick__"


class Quick(NamedTuple):
    """A check that needs no request.

    `take` counts one by its ASGI scope, and returns a `Record` to be closed when that is all there is to do; what it
    returns otherwise is for `resume`.
    """

    take: Callable[..., Any]
    resume: Callable[[HTTPConnection, Wait, Answer], Coroutine[Any, Any, None]]


def quick_of(check: Check | None) -> Quick | None:
    """The form of a check that needs no request, if it has one."""
    return getattr(check, _QUICK, None) if Request.client is STOCK_CLIENT else None


def compile_check(checker: Checker, plan: Plan) -> Check:
    """The quickest check that decides requests as `Checker.check` does for this plan."""

    def check_in_general(request: HTTPConnection, wait: Wait) -> Coroutine[Any, Any, None]:
        return checker.check(plan, as_request(request), wait, {})

    # Other headers tell all limits of a request, also those that matter less.
    is_plain = not checker.swallows_errors and (not checker.headers_enabled or checker.headers.is_plain)
    is_plain = is_plain and all(_is_plain(group) for group in plan.groups)
    if not is_plain or len({id(group.key_function) for group in plan.groups}) != 1:
        return check_in_general
    by_path = checker.counting.reader.is_by_path(plan, plan.groups[0].scope)
    if any(by_path != checker.counting.reader.is_by_path(plan, group.scope) for group in plan.groups):
        return check_in_general

    hits = _fixed_charges(checker, plan)
    policy = checker.counting.storage.policy(tuple(each.rule for each in hits))
    costs = tuple(each.cost for each in hits)
    key_function = plan.groups[0].key_function
    key_prefix = checker.counting.reader.key_prefix
    is_bare = not checker.headers_enabled and not key_prefix
    items = tuple(each.limit.limit for each in hits)
    take: Callable[..., Any] = taker(
        policy.hit,
        costs[0] if len(set(costs)) == 1 else costs,
        items,
        None if by_path else tuple(each.place.label for each in hits),
        None if is_bare else CurrentLimit,
        checker.mark_of(plan),
        key_prefix or None,
        plan.exempt_name,
        checker.exempt_routes,
        StorageFull,
        STOCK_CLIENT,
    )

    def resume(request: HTTPConnection, wait: Wait, answer: Answer) -> Coroutine[Any, Any, None]:
        if not answer:
            return check_in_general(request, wait)
        raw_decision, key, label = answer
        rule = raw_decision[1]
        record, view = record_of(request), CurrentLimit.of(raw_decision, items[rule], key, label, key_prefix)
        see(record, view)
        mark(record, checker.mark_of(plan))
        record.reached = not plan.is_ahead
        raise checker.refusal(hits[rule].limit, view.decision)

    if key_function is get_remote_address:
        # The peer's address takes less time to read than a call.
        def check(request: HTTPConnection, wait: Wait) -> Coroutine[Any, Any, None] | None:
            answer = take(request)
            return None if answer is None else resume(request, wait, answer)

        setattr(check, _QUICK, Quick(take, resume))
        return check

    read_key, exempt_name, exempt_routes = plan.groups[0].read_key, plan.exempt_name, checker.exempt_routes

    def check_key(request: HTTPConnection, wait: Wait) -> Coroutine[Any, Any, None] | None:
        scope = getattr(request, "scope", None)
        if type(scope) is not dict:
            return check_in_general(request, wait)
        state = scope.get("state")
        if (exempt_routes and exempt_name in exempt_routes) or (state is not None and COMPLETE in state):
            return check_in_general(request, wait)
        try:
            key = read_key(request)
        except HTTPException:
            raise
        except Exception:
            checker.counting.count_error("raised")
            raise
        answer = take(request, key)
        if answer == ():
            return checker.check(plan, request, wait, {id(key_function): key})
        return None if answer is None else resume(request, wait, answer)

    return check_key


def _is_plain(group: LimitGroup) -> bool:
    return not (
        group.limits is None
        or group.is_async
        or group.per_method
        or group.methods is not None
        or group.read_exempt
        or group.read_cost
        or group.read_message
        or group.read_scope
        or group.read_deduct
        or group.is_shadow
        or any(limit.previous or limit.refuses_all for limit in group.limits)
    )


def _fixed_charges(checker: Checker, plan: Plan) -> list[Hit]:
    hits: dict[object, Hit] = {}
    for group in plan.groups:
        place = checker.counting.reader.place(plan, "", group.scope)
        for limit in group.limits or ():
            assert limit.quota is not None
            hit = Hit(limit, group, limit.quota, place, "", group.fixed_cost)
            same = hits.setdefault((limit.quota, place), hit)
            if same.cost < hit.cost:
                hits[limit.quota, place] = hit
    return list(hits.values())
