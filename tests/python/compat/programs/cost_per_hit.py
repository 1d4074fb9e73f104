"""Set a custom cost per hit."""

from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address

limiter = Limiter(key_func=get_remote_address)
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


def get_hit_cost(request: Request) -> int:
    return len(request.query_params["text"])


@app.get("/someroute")
@limiter.limit("10/minute", cost=get_hit_cost)
def t(request: Request, text: str):
    return PlainTextResponse("I'm limited by the request size")
