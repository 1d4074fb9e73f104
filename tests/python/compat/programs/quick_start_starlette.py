"""Quick start with Starlette."""

from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

limiter = Limiter(key_func=get_remote_address)


@limiter.limit("5/minute")
async def homepage(request: Request):
    return PlainTextResponse("test")


app = Starlette(routes=[Route("/home", homepage)])
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
