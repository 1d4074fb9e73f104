"""Which few candidates a path may have, in time that does not depend on how many there are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import NamedTuple

from .candidate import Candidate, Found, Kind


class How(IntEnum):
    """How a candidate's match is made sure of."""

    SURE = 0
    BY_PATTERN = 1
    BY_ASKING = 2


class Step(NamedTuple):
    candidate: Candidate
    how: How
    is_full: bool


def asking(candidates: Iterable[Candidate]) -> list[Step]:
    """The steps that ask each of these candidates itself."""
    return [Step(candidate, How.BY_ASKING, True) for candidate in candidates]


class Outcome(NamedTuple):
    """What paths that end in a state, and a method, come to: what `steps` find, and that is sometimes known already.

    It is `found`, or what is found below `mount`, as long as `node` is at its place.
    """

    found: Found | None
    mount: Candidate | None
    position: int
    node: object
    steps: Sequence[Step]


class _Node:
    __slots__ = ("any", "ends", "literals", "open")

    def __init__(self) -> None:
        self.literals: dict[str, _Node] = {}
        self.any: _Node | None = None
        self.ends: list[int] = []
        self.open: list[int] = []


class State:
    """All that a path may be after some of its segments. `edges` are None until somebody walks them."""

    __slots__ = ("edges", "nodes", "open", "other", "plan")

    def __init__(self, nodes: tuple[_Node, ...], open_before: frozenset[int]) -> None:
        self.nodes = nodes
        self.open = open_before
        self.edges: dict[str, State | None] = {}
        self.other: State | None = None
        self.plan: dict[str | None, Outcome] = {}
        if nodes:
            self.edges[""] = None
        for node in nodes:
            self.edges.update(dict.fromkeys(node.literals))


class RouteIndex:
    """The candidates of a router as a tree of segments, made deterministic where requests walk it.

    `steps` walks it. Paths with a line feed need `all_steps`, as "$" matches before the last one. Methods are None for
    WebSockets.

    Only sizes that follow from the routes, never requests, decide how large it gets. Thread-safe: threads may do the
    same work twice.
    """

    def __init__(self, candidates: Sequence[Candidate]) -> None:
        self._candidates = candidates
        self.all_steps = asking(candidates)
        self._always = frozenset(at for at, candidate in enumerate(candidates) if candidate.shape is None)
        self._methods: frozenset[str | None] = frozenset(
            {None}.union(*(candidate.methods or () for candidate in candidates))
        )
        self._states: dict[tuple[tuple[_Node, ...], frozenset[int]], State] = {}
        root = _Node()
        self.depth = 0
        self._size = 1
        for at, candidate in enumerate(candidates):
            if candidate.shape is not None:
                self._insert(root, at, candidate.shape.segments, candidate.shape.is_open)
        self.start = self._state((root,), frozenset())

    def step(self, state: State, segment: str) -> State:
        """Walks an edge for the first time."""
        nodes = [node.literals[segment] for node in state.nodes if segment in node.literals]
        if segment:
            nodes += [node.any for node in state.nodes if node.any is not None]
        following = self._state(tuple(nodes), state.open.union(*(node.open for node in state.nodes)))
        if segment in state.edges:
            state.edges[segment] = following
        else:
            state.other = following
        return following

    def decide(self, state: State, method: str | None) -> Outcome:
        """What `state.plan` has, or will have, for the method."""
        known = method if method in self._methods else ""
        outcome = state.plan.get(known)
        if outcome is None:
            ends = (at for node in state.nodes for at in node.ends)
            outcome = state.plan[known] = self._outcome(sorted({*self._always, *state.open, *ends}), known)
        return outcome

    def steps(self, path: str, method: str | None) -> Sequence[Step]:
        """What finds the route for a path."""
        if "\n" in path:
            return self.all_steps
        state = self.start
        for segment in path.split("/", self.depth):
            state = state.edges.get(segment, state.other) or self.step(state, segment)
        return self.decide(state, method).steps

    def _insert(self, node: _Node, at: int, segments: tuple[str | None, ...], is_open: bool) -> None:
        self.depth = max(self.depth, len(segments))
        self._size += len(segments)
        for segment in segments:
            if segment is not None:
                node = node.literals.setdefault(segment, _Node())
            else:
                if node.any is None:
                    node.any = _Node()
                node = node.any
        (node.open if is_open else node.ends).append(at)

    def _state(self, nodes: tuple[_Node, ...], open_before: frozenset[int]) -> State:
        known = self._states.get((nodes, open_before))
        if known is None:
            # Templates can be made up that have very many states; most requests walk few of them.
            if len(self._states) > 8 * self._size + 64:
                self._states.clear()
                self.start.edges.update(dict.fromkeys(self.start.edges))
                self.start.other = None
            known = self._states[nodes, open_before] = State(nodes, open_before)
        return known

    def _outcome(self, ats: Iterable[int], method: str | None) -> Outcome:
        steps, is_sure = list[Step](), True
        protocol = "websocket" if method is None else "http"
        for candidate in map(self._candidates.__getitem__, ats):
            if candidate.protocol not in (None, protocol):
                continue
            is_full = method is None or not candidate.methods or method in candidate.methods
            at, node = candidate.position, candidate.node
            is_exact = candidate.shape is not None and candidate.shape.is_exact
            how = How.BY_ASKING if candidate.pattern is None else How.SURE if is_exact else How.BY_PATTERN
            steps.append(Step(candidate, how, is_full))
            if is_full and how is How.SURE:
                if is_sure:
                    return Outcome(candidate.found(Kind.FULL), None, at, node, steps)
                break
            if candidate.mounted_at is not None and is_sure:
                return Outcome(None, candidate, at, node, steps)
            is_sure &= how is How.SURE
        return Outcome(None, None, 0, None, steps)
