"""The short cut of `Checker.check` for endpoints whose limits are all known beforehand: the same outcome, sooner."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any
from weakref import ref

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from .._http.request_doubles import as_request
from .._http.state import COMPLETE, RECORD, VIEW, Record
from .._http.view import CurrentLimit
from .._rules.bucket import counted_path
from .._rules.limit_group import LimitGroup
from .._rules.resolver import Hit, Plan
from .._support.callables import Wait
from ..errors import StorageFull
from .checker import Check, Checker


def compile_check(checker: Checker, plan: Plan) -> Check:
    """The quickest check that decides requests as `Checker.check` does for this plan."""

    def check_in_general(request: HTTPConnection, wait: Wait) -> Coroutine[Any, Any, None]:
        return checker.check(plan, as_request(request), wait, {})

    resolver = checker.resolver
    # Other headers tell all limits of a request, also those that matter less.
    is_plain = not checker.swallows_errors and (not checker.headers_enabled or checker.headers.is_plain)
    is_plain = is_plain and all(map(_is_plain, plan.groups))
    if not is_plain or len({id(group.key_function) for group in plan.groups}) != 1:
        return check_in_general
    by_path = resolver.is_by_path(plan, plan.groups[0].scope)
    if any(by_path != resolver.is_by_path(plan, group.scope) for group in plan.groups):
        return check_in_general

    hits = _fixed_hits(checker, plan)
    hit = checker.backend.policy(hits).hit
    costs: Any = tuple(each.cost for each in hits)
    if len(set(costs)) == 1:
        costs = costs[0]
    items, labels = [each.limit.limit for each in hits], [each.place.label for each in hits]
    key_function, read_key = plan.groups[0].key_function, plan.groups[0].read_key
    prefix = [resolver.key_prefix] if resolver.key_prefix else []
    exempt_name, exempt_routes = plan.exempt_name, checker.exempt_routes
    mark, is_reached = checker.mark_of(plan), not plan.is_ahead

    def check(request: HTTPConnection, wait: Wait) -> Coroutine[Any, Any, None] | None:
        scope = getattr(request, "scope", None)
        if type(scope) is not dict or (exempt_routes and exempt_name in exempt_routes):
            return check_in_general(request, wait)
        record, state = scope.get(RECORD), scope.get("state")
        # What is known of the request already, or was said by a program, may mean that less is to be counted.
        if record is not None and (record.scope is not scope or record.done is not None or record.taken is not None):
            return check_in_general(request, wait)
        if state is None:
            state = scope["state"] = {}
        elif type(state) is not dict or COMPLETE in state or (record is not None and record.told_by is not None):
            return check_in_general(request, wait)
        try:
            key = read_key(request)
        except HTTPException:
            raise
        except Exception:
            checker.resolver.count_error("raised")
            raise
        if type(key) is not str or not key:
            return checker.check(plan, request, wait, {id(key_function): key})
        counted = key
        if by_path:
            path = scope["path"]
            if type(path) is not str or scope.get("root_path") or path[-1:] == "\n":
                path = counted_path(scope)
            counted = f"{len(path)}:{path}{key}"
        try:
            raw_decision = hit(counted, costs)
        except StorageFull:
            return checker.check(plan, request, wait, {id(key_function): key})
        at = raw_decision[1]
        view = CurrentLimit((items[at], [*prefix, key, path if by_path else labels[at]]))
        view.raw_decision = raw_decision
        if record is None:
            record = scope[RECORD] = Record()
            try:
                record.holder = ref(request)
            except TypeError:
                # Of what stands in for a request in somebody's tests.
                record.scope = scope
        record.view = state[VIEW] = view
        record.done = state[COMPLETE] = mark
        record.reached = is_reached
        if not raw_decision[0]:
            raise checker.refusal(hits[at].limit, view.decision)
        return None

    return check


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


def _fixed_hits(checker: Checker, plan: Plan) -> list[Hit]:
    hits: dict[object, Hit] = {}
    for group in plan.groups:
        place = checker.resolver.place(plan, "", group.scope)
        for limit in group.limits or ():
            assert limit.quota is not None
            hit = Hit(limit, group, limit.quota, place, "", group.fixed_cost)
            same = hits.setdefault((limit.quota, place), hit)
            if same.cost < hit.cost:
                hits[limit.quota, place] = hit
    return list(hits.values())
