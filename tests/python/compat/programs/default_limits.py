"""Apply a global (default) limit to all routes, and exempt one from it."""

from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIMiddleware
from slowapi.util import get_remote_address
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

limiter = Limiter(key_func=get_remote_address, default_limits=["1/minute"])


# this will be limited by the default_limits
async def homepage(request: Request):
    return PlainTextResponse("Only once per minute")


@limiter.exempt
def t(request: Request):
    return PlainTextResponse("I'm unlimited")


app = Starlette(routes=[Route("/homepage", homepage), Route("/someroute", t)])
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
app.add_middleware(SlowAPIMiddleware)
