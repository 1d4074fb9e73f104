"""Disable the limiter entirely."""

from fastapi import FastAPI, Request
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded
from slowapi.middleware import SlowAPIMiddleware
from slowapi.util import get_remote_address

limiter = Limiter(key_func=get_remote_address, default_limits=["1/minute"], enabled=False)
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
app.add_middleware(SlowAPIMiddleware)


@app.get("/someroute")
@limiter.exempt
async def t(request: Request):
    return {"limited": False}


@app.get("/home")
@limiter.limit("1/minute")
async def home(request: Request):
    return {"limited": False}
