"""The application of `python -m slidegate.demo`: four routes, four limits.

RATELIMIT_STORAGE_URL says where they are counted, as for every limiter.
"""

from __future__ import annotations

from fastapi import FastAPI

from .. import Limiter, RateLimitExceeded, _rate_limit_exceeded_handler
from ..util import get_remote_address

limiter = Limiter(key_func=get_remote_address, headers_enabled=True, key_style="endpoint")
app = FastAPI(title="slidegate demo")
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


@app.api_route("/agent/chat", methods=["GET", "POST"])
@limiter.limit("10/minute")
async def chat() -> dict[str, str]:
    return {"reply": "Hello."}


@app.post("/agent/calendar")
@limiter.limit("20/minute")
async def calendar() -> dict[str, list[str]]:
    return {"events": ["09:00 stand-up"]}


@app.get("/audit/logs")
@limiter.limit("30/minute")
def logs() -> list[str]:
    return ["chat admitted"]


@app.get("/health")
@limiter.limit("100/minute")
async def health() -> dict[str, str]:
    return {"status": "ok"}
