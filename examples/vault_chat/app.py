"""Vault chat: a limit for every endpoint, tiers for its users, nginx in front.

    pip install 'slidegate[jwt]' fastapi uvicorn
    JWT_SECRET=$(openssl rand -hex 32) python app.py
    nginx -p . -c nginx.conf -g 'daemon off;'                 # on port 8080

| variable | default | |
|---|---|---|
| JWT_SECRET | | what tokens are signed with: HS256, with `sub`, and `tier` "free" or "pro" |
| REDIS_URL | this host alone | such as redis://redis:6379/0 |
| PORT | 8000 | |
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import jwt
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.responses import FileResponse
from pydantic import BaseModel

from slidegate import Limiter, RateLimitExceeded, _rate_limit_exceeded_handler
from slidegate.keys import jwt_subject
from slidegate.util import get_remote_address

TIERS = {"free": "10/minute", "pro": "100/minute"}
SECRET = os.environ["JWT_SECRET"]
logger = logging.getLogger("vault_chat")

# The user that a verified token names; who has none is counted by address.
user_or_address = jwt_subject(SECRET, ["HS256"], fallback=get_remote_address)
limiter = Limiter(
    key_func=user_or_address,
    storage_uri=os.environ.get("REDIS_URL"),
    headers_enabled=True,
    key_style="endpoint",
)


def tier_of(request: Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return "free"
    try:
        tier = jwt.decode(token, SECRET, algorithms=["HS256"], options={"require": ["sub"]}).get("tier")
    except jwt.InvalidTokenError:
        return "free"
    return tier if tier in TIERS else "free"


async def refused(request: Request, error: Exception) -> Response:
    """The usual answer, and a line in the log about it."""
    assert isinstance(error, RateLimitExceeded)
    logger.warning("%s %s refused: %s", request.method, request.url.path, error.detail)
    return _rate_limit_exceeded_handler(request, error)


app = FastAPI(title="Vault chat")
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, refused)


class Message(BaseModel):
    message: str


@app.get("/health")
@limiter.limit("100/minute", key_func=get_remote_address)
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.post("/agent/chat")
async def chat(request: Request, message: Message) -> dict[str, str]:
    await limiter.check(request, TIERS[tier_of(request)])
    return {"answer": f"You asked the vault: {message.message}"}


@app.post("/agent/calendar")
@limiter.limit("20/minute")
async def calendar() -> list[dict[str, Any]]:
    return [{"at": "2026-01-05T09:00", "what": "rotate the keys"}]


@app.get("/audit/logs")
@limiter.limit("30/minute")
async def audit_logs() -> list[str]:
    return ["09:00 somebody opened the vault"]


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("index.html"))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    uvicorn.run("app:app", port=int(os.environ.get("PORT", "8000")))
