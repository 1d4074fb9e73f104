"""Choose the limit by who asks, who that is by a function, and exempt some by another."""

from fastapi import FastAPI, Request
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded


def get_user(request: Request) -> str:
    return request.headers.get("X-User", "anonymous")


def limit_of(key: str) -> str:
    return "3/minute" if key == "paying" else "1/minute"


def is_internal(request: Request) -> bool:
    return request.headers.get("X-Internal") == "yes"


limiter = Limiter(key_func=get_user)
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


@app.get("/tiers")
@limiter.limit(limit_of)
async def tiers(request: Request):
    return {"user": get_user(request)}


@app.get("/agents")
@limiter.limit("1/minute", key_func=lambda request: request.headers["User-Agent"], exempt_when=is_internal)
async def agents(request: Request):
    return {"agent": request.headers["User-Agent"]}


@app.api_route("/methods", methods=["GET", "POST"])
@limiter.limit("1/minute", per_method=True, error_message=lambda: "one of each")
async def methods(request: Request):
    return {"method": request.method}
