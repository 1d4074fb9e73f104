"""Plans that are made into checks once: what requests have no say in is ready before the first of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias
from weakref import ref

from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection

from .._http.current_limit import NOTHING_YET, CurrentLimit, told_of
from .._http.request_doubles import as_request
from .._http.request_state import COMPLETE, RECORD, VIEW, Record
from .._rules.bucket import counted_path
from .._rules.hit import Hit, merged
from .._rules.limit_group import LimitGroup
from .._rules.plan import Plan
from .._support.errors import StorageFull
from .._support.steps import started
from .._support.waiting import Wait
from .checker import ENDPOINT, Checker, Way

CompiledCheck: TypeAlias = Callable[..., Any]
"""A check that returns what came of it, None without a limit, or what has to be awaited for that; of an endpoint, None
where nothing has to be awaited. It is given the request, how to wait, and the key, where that is known."""


def compile_check(checker: Checker, plan: Plan, way: Way = ENDPOINT) -> CompiledCheck:
    """What decides requests as `Checker.decide` does. Fixed limits of one key function are counted at once.

    The record of the request has to be there, but for checks of endpoints.
    """
    hits, function = _fixed_hits(checker, plan), plan.groups[0].key_function if plan.groups else None
    policy = checker.backend.policy(hits) if hits else None
    is_of_endpoint, is_once, is_told = way
    mark = checker.mark_of(plan) if is_of_endpoint else None

    def in_general(request: HTTPConnection, wait: Wait, key: Any = None) -> Any:
        if type(getattr(request, "scope", None)) is not dict:
            request = as_request(request)
        keys = {} if key is None else {id(function): key}
        decided = started(checker.decide(plan, request, wait, keys, way, mark), wait)
        return None if is_of_endpoint and type(decided) is CurrentLimit else decided

    if policy is None or hasattr(policy, "hit_async"):
        return in_general

    hit, read_key, resolver, owner = policy.hit, plan.groups[0].read_key, checker.resolver, checker.owner
    by_path = resolver.is_by_path(plan, plan.groups[0].scope)
    costs: Any = [each.cost for each in hits]
    costs = costs[0] if len(set(costs)) == 1 else tuple(costs)
    items, labels = [each.limit.limit for each in hits], [each.bucket.label for each in hits]
    prefix = [resolver.key_prefix] if resolver.key_prefix else []
    exempt_name, exempt_routes = plan.exempt_name, checker.exempt_routes
    is_reached = not plan.is_ahead

    def check(request: HTTPConnection, wait: Wait, key: Any = None) -> Any:
        scope = getattr(request, "scope", None)
        if type(scope) is not dict or (is_of_endpoint and exempt_routes and exempt_name in exempt_routes):
            return in_general(request, wait, key)
        record, state = scope.get(RECORD), scope.get("state")
        # What is known of the request already, or was said by a program, may mean that less is to be counted.
        if record is not None and (
            (is_once and record.taken is not None)
            or (
                is_of_endpoint
                and (record.scope is not scope or record.done is not None or record.headers_owner is not None)
            )
        ):
            return in_general(request, wait, key)
        if state is None:
            state = scope["state"] = {}
        elif type(state) is not dict or (is_of_endpoint and COMPLETE in state):
            return in_general(request, wait, key)
        if key is None:
            try:
                key = read_key(request)
            except HTTPException:
                raise
            except Exception:
                resolver.count_error("raised")
                raise
        if type(key) is not str or not key:
            return in_general(request, wait, "" if key is None else key)
        counted = key
        if by_path:
            path = scope["path"]
            if type(path) is not str or scope.get("root_path") or path[-1:] == "\n":
                path = counted_path(scope)
            counted = f"{len(path)}:{path}{key}"
        try:
            raw_decision = hit(counted, costs)
        except StorageFull:
            return in_general(request, wait, key)
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
        if is_of_endpoint:
            record.view = state[VIEW] = view
            record.done = state[COMPLETE] = mark
            record.reached = is_reached
            if not raw_decision[0]:
                raise checker.refusal(hits[at].limit, view.decision)
            return None
        record.reached = True
        if COMPLETE not in state:
            state[COMPLETE] = NOTHING_YET
        if is_told:
            record.headers_owner = owner
            record.view = state[VIEW] = view if record.view is None else told_of(record, owner, view)
        elif VIEW not in state:
            state[VIEW] = None
        if not raw_decision[0]:
            raise checker.refusal(hits[at].limit, view.decision, plan=plan)
        if is_once:
            record.taken = {owner: [(hits, key)]}
        return view

    return check


def _fixed_hits(checker: Checker, plan: Plan) -> list[Hit]:
    """What requests take, but for the key and the path; nothing where more than these depends on them."""
    groups, resolver = plan.groups, checker.resolver
    # Other headers tell all limits of a request, also those that matter less.
    is_plain = not checker.swallows_errors and checker.headers.is_plain
    if not (is_plain and all(map(_is_fixed, groups)) and len({id(group.key_function) for group in groups}) == 1):
        return []
    if len({resolver.is_by_path(plan, group.scope) for group in groups}) != 1:
        return []
    return merged(
        Hit(limit, group, limit.quota, resolver.bucket(plan, "", group.scope), "", group.fixed_cost)
        for group in groups
        for limit in group.limits or ()
        if limit.quota is not None
    )


def _is_fixed(group: LimitGroup) -> bool:
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
