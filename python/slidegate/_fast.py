"""The short cut of `Checker.check` for endpoints whose limits are all known beforehand: the same outcome, sooner."""

from __future__ import annotations

from collections.abc import Coroutine, MutableMapping
from typing import Any, NoReturn

from starlette.requests import HTTPConnection

from ._callables import Settle
from ._charges import Charge, Plan
from ._check import COMPLETE, VIEW, Check, Checker, CurrentLimit
from ._places import joined
from .decision import Essentials
from .util import get_remote_address
from .wrappers import LimitGroup


def compile_check(checker: Checker, plan: Plan) -> Check:
    """The quickest check that decides requests as `Checker.check` does for this plan."""

    def check_in_general(request: HTTPConnection, settle: Settle) -> Coroutine[Any, Any, None]:
        return checker.check(plan, request, settle, {})

    is_plain = not checker.swallows_errors and all(_is_plain(group) for group in plan.groups)
    if not is_plain or len({id(group.key_function) for group in plan.groups}) != 1:
        return check_in_general
    by_path = checker.reader.is_by_path(plan, plan.groups[0].scope)
    if any(by_path != checker.reader.is_by_path(plan, group.scope) for group in plan.groups):
        return check_in_general

    charges = _fixed_charges(checker, plan)
    policy = checker.storage.policy(tuple((each.quota, each.place.rule_scope) for each in charges))
    costs = tuple(each.cost for each in charges)
    key_function = plan.groups[0].key_function
    key_prefix = checker.reader.key_prefix
    is_bare = not checker.headers_enabled and not key_prefix

    def check_with_key(request: HTTPConnection, settle: Settle, key: object) -> Coroutine[Any, Any, None]:
        return checker.check(plan, request, settle, {id(key_function): key})

    def refuse(state: MutableMapping[str, Any], essentials: Essentials, key: str, label: str) -> NoReturn:
        rule = essentials[1]
        state[VIEW] = view = CurrentLimit.of(essentials, items[rule], key, label, key_prefix)
        state[COMPLETE] = done
        raise checker.refusal(charges[rule].limit, view.decision)

    # What `check` uses on every request. Few names, because each of them is a cell in memory that it has to visit.
    hit = policy.hit
    cost = costs[0] if len(set(costs)) == 1 else costs
    items = tuple(each.limit.limit for each in charges)
    labels = None if by_path else tuple(each.place.label for each in charges)
    # None stands for the peer's address, which takes less time to read than a call.
    read_key = None if key_function is get_remote_address else plan.groups[0].read_key
    done, endpoint, exempt_routes = checker.mark_of(plan), plan.endpoint, checker.exempt_routes
    # The path of the last request and what goes before its keys: most endpoints have one path.
    latest = ("", joined(""))

    def check(request: HTTPConnection, settle: Settle) -> Coroutine[Any, Any, None] | None:
        nonlocal latest
        scope = request.scope
        state = scope.get("state")
        if (exempt_routes and endpoint in exempt_routes) or (state is not None and COMPLETE in state):
            return check_in_general(request, settle)
        if read_key is None:
            client = scope.get("client")
            key = client[0] if client else ""
        else:
            key = read_key(request)
        if type(key) is not str or not key:
            return check_with_key(request, settle, key)
        if labels is None:
            label = scope["path"]
            path, lead = latest
            if path != label:
                lead = joined(label)
                latest = (label, lead)
            essentials = hit(lead + key, cost)
        else:
            essentials = hit(key, cost)
            label = labels[essentials[1]]
        if state is None:
            state = scope["state"] = {}
        if not essentials[0]:
            refuse(state, essentials, key, label)
        if is_bare:
            state[VIEW] = (items[essentials[1]], [key, label])
        else:
            state[VIEW] = CurrentLimit.of(essentials, items[essentials[1]], key, label, key_prefix)
        state[COMPLETE] = done
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
    )


def _fixed_charges(checker: Checker, plan: Plan) -> list[Charge]:
    charges: dict[object, Charge] = {}
    for group in plan.groups:
        place = checker.reader.place(plan, "", group.scope)
        for limit in group.limits or ():
            assert limit.quota is not None
            charge = Charge(limit, group, limit.quota, place, "", group.fixed_cost)
            same = charges.setdefault((limit.quota, place), charge)
            if same.cost < charge.cost:
                charges[limit.quota, place] = charge
    return list(charges.values())
