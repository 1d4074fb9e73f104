"""Share a limit across a set of routes, and stack limits on one."""

from fastapi import FastAPI, Request
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.util import get_remote_address

limiter = Limiter(key_func=get_remote_address)
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

shared_limit = limiter.shared_limit("3/minute", scope="shared")


@app.get("/t1")
@shared_limit
async def t1(request: Request):
    return {"route": "t1"}


@app.get("/t2")
@shared_limit
def t2(request: Request):
    return {"route": "t2"}


@app.get("/t3")
@limiter.limit("100/hour")
@limiter.limit("2/minute")
async def t3(request: Request):
    return {"route": "t3"}
