"""Ten chats a minute for every address. Run it with `uvicorn quickstart:app` in this directory."""

from fastapi import FastAPI, Request

from slidegate import Limiter, RateLimitExceeded, _rate_limit_exceeded_handler
from slidegate.util import get_remote_address

# A route counts as one, whichever path it is called by.
limiter = Limiter(key_func=get_remote_address, headers_enabled=True, key_style="endpoint")

app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


@app.get("/agent/chat")
@limiter.limit("10/minute")
async def chat() -> dict[str, str]:
    return {"reply": "Hello."}


# Two limits are decided together: a request takes from both or from neither.
@app.get("/agent/calendar")
@limiter.limit("2/second; 20/minute")
def calendar() -> dict[str, list[str]]:
    return {"events": []}


PRO_KEYS = {"k-3f9a1c"}


async def plan_of(request: Request) -> str:
    """Stands for a look-up of what the caller has paid for: by a secret, never by what a client says of itself."""
    return "100/minute" if request.headers.get("X-API-Key") in PRO_KEYS else "5/minute"


@app.get("/reports/{name}")
@limiter.limit(plan_of, cost=lambda request: 5 if request.query_params.get("full") else 1)
async def report(name: str) -> dict[str, str]:
    return {"report": name}
