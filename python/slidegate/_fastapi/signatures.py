"""Finds the request and the response among an endpoint's parameters, and adds them where they are missing."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from inspect import Parameter, Signature
from types import NoneType, SimpleNamespace
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from starlette.requests import HTTPConnection
from starlette.responses import Response

from .._support.callables import called_function, innermost

ADDED_REQUEST = "slidegate_request"


@dataclass(frozen=True, slots=True)
class Slot:
    """How a call carries a value: under `name`, or at `index` of the positional arguments.

    An added one is for the wrapper alone and has to be taken out of the call. What a call has under `quick_name` is
    trusted to be the value: a parameter that was found by its name, and is not annotated, may hold something else.
    """

    name: str
    kind: type
    index: int | None = None
    is_added: bool = False
    quick_name: str = ""

    def take(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        """The value, None without one, and the positional arguments to go on with."""
        value = kwargs.pop(self.name, None) if self.is_added else kwargs.get(self.name)
        if value is None and self.index is not None and len(args) > self.index:
            value = args[self.index]
        if value is None and self.is_added:
            # A plain Starlette route passes the request by position, also to an endpoint that asks for none.
            value = next((each for each in args if isinstance(each, self.kind)), None)
            args = tuple(each for each in args if each is not value)
        return (value if isinstance(value, self.kind) else None), args


def resolved_signature(function: Callable[..., Any]) -> Signature:
    """The signature, with annotations evaluated as far as they can be."""
    signature = inspect.signature(function)
    return signature.replace(
        parameters=[
            parameter.replace(annotation=_resolved(parameter.annotation, function))
            for parameter in signature.parameters.values()
        ],
        return_annotation=_resolved(signature.return_annotation, function),
    )


def with_parameter(signature: Signature, name: str, annotation: Any, **more: Any) -> tuple[Signature, str]:
    """The signature with one keyword-only parameter more, and that parameter's name, made unique."""
    while name in signature.parameters:
        name += "_"
    parameters = list(signature.parameters.values())
    end = len(parameters) - (bool(parameters) and parameters[-1].kind is Parameter.VAR_KEYWORD)
    parameters.insert(end, Parameter(name, Parameter.KEYWORD_ONLY, annotation=annotation, **more))
    return signature.replace(parameters=parameters), name


def request_slot(signature: Signature) -> tuple[Signature, Slot]:
    """Where the request, or the WebSocket, is passed; a parameter for it is added when there is none."""
    return _slot_or_added(signature, HTTPConnection, ("request", "websocket"), ADDED_REQUEST)


def response_slot(signature: Signature) -> tuple[Signature, Slot]:
    """Where the response that headers are set on is passed; a parameter for it is added when there is none."""
    return _slot_or_added(signature, Response, ("response",), "slidegate_response")


def _slot_or_added(signature: Signature, kind: type, names: tuple[str, ...], added: str) -> tuple[Signature, Slot]:
    slot = _slot_in(signature, kind, names)
    if slot is not None:
        return signature, slot
    signature, name = with_parameter(signature, added, kind)
    return signature, Slot(name, kind, is_added=True, quick_name=name)


def _slot_in(signature: Signature, kind: type, names: tuple[str, ...]) -> Slot | None:
    # An annotation says so, or else the mere name does.
    parameters = list(signature.parameters.values())
    unknown = [each for each in parameters if each.annotation is Parameter.empty or isinstance(each.annotation, str)]
    annotated = [each for each in parameters if _is_kind(each.annotation, kind)]
    named = [each for name in names for each in unknown if each.name == name]
    for parameter in (*annotated, *named):
        index = None if parameter.kind is Parameter.KEYWORD_ONLY else parameters.index(parameter)
        return Slot(parameter.name, kind, index, quick_name=parameter.name if annotated else "")
    return None


def _is_kind(annotation: Any, kind: type) -> bool:
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    annotation = get_origin(annotation) or annotation
    return isinstance(annotation, type) and issubclass(annotation, kind)


def _resolved(annotation: Any, function: Callable[..., Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    names = getattr(called_function(inspect.unwrap(innermost(function))), "__globals__", {})
    try:
        hint = get_type_hints(SimpleNamespace(__annotations__={"it": annotation}), names, include_extras=True)["it"]
    except Exception:
        # A name that only type checkers import. FastAPI leaves such annotations alone too.
        return annotation
    # Versions of FastAPI differ in what they make of this one, so it is left to them.
    return "None" if hint is NoneType else hint
