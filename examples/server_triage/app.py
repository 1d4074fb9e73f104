"""Server triage: a limit for every address, and beside it one for every user of the endpoint that costs money.

    pip install 'slidegate[jwt,settings]' fastapi uvicorn
    JWT_SECRET=$(openssl rand -hex 32) python app.py

| variable | default | |
|---|---|---|
| JWT_SECRET | | what access tokens are signed with: HS256, `sub` a UUID, `role` "operator" or "readonly" |
| API_KEYS | {} | JSON: `{"<SHA-256 of a key>": {"id": "<UUID>", "role": "operator"}}`, for X-API-Key |
| REDIS_URL | this host alone | such as redis://redis:6379/0; when it is gone, requests are let through |
| LLM_RATE_LIMIT_REQUESTS, LLM_RATE_LIMIT_WINDOW | 20, 3600 | triages for each user in so many seconds |
| ADDRESS_RATE_LIMIT | 300/minute | requests of any kind for each address |
| TRUSTED_PROXIES | [] | JSON: addresses and networks whose X-Forwarded-For is believed |
| PORT | 8000 | |
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import jwt
import uvicorn
from fastapi import Depends, FastAPI, HTTPException, Security
from fastapi.responses import FileResponse
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from pydantic import BaseModel, Field, PositiveInt, ValidationError
from pydantic_settings import BaseSettings

from slidegate import Limiter, RateLimit, RateLimitExceeded, _rate_limit_exceeded_handler
from slidegate.keys import remote_address
from slidegate.middleware import SlowAPIMiddleware


class User(BaseModel):
    id: UUID
    role: Literal["operator", "readonly"]


class Settings(BaseSettings):
    jwt_secret: str = Field(min_length=32)
    api_keys: dict[str, User] = {}
    redis_url: str | None = None
    llm_rate_limit_requests: PositiveInt = 20
    llm_rate_limit_window: PositiveInt = 3600
    address_rate_limit: str = "300/minute"
    trusted_proxies: list[str] = []
    port: int = 8000


settings = Settings()
limiter = Limiter(
    key_func=remote_address(settings.trusted_proxies),
    application_limits=[settings.address_rate_limit],
    storage_uri=settings.redis_url,
    on_error="open",
    headers_enabled=True,
)


def current_user(
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(HTTPBearer(auto_error=False))],
    api_key: Annotated[str | None, Security(APIKeyHeader(name="X-API-Key", auto_error=False))],
) -> User:
    """Who sends the request, by whichever of the two ways to say so."""
    if api_key is not None:
        user = settings.api_keys.get(hashlib.sha256(api_key.encode()).hexdigest())
        if user is not None:
            return user
    elif bearer is not None:
        try:
            claims = jwt.decode(
                bearer.credentials, settings.jwt_secret, algorithms=["HS256"], options={"require": ["sub", "exp"]}
            )
            return User(id=claims["sub"], role=claims.get("role", "readonly"))
        except (jwt.InvalidTokenError, ValidationError):
            pass
    raise HTTPException(401, "a valid token or API key is needed", headers={"WWW-Authenticate": "Bearer"})


def operator(user: Annotated[User, Depends(current_user)]) -> User:
    if user.role != "operator":
        raise HTTPException(403, "your role may not start a triage")
    return user


def llm_key(user: Annotated[User, Depends(operator)]) -> str:
    """Neither the address nor the credential: one user with many of them has one limit, ten behind one NAT have ten."""
    return f"llm-rate:{user.id}"


per_user = RateLimit(
    f"{settings.llm_rate_limit_requests} per {settings.llm_rate_limit_window} seconds",
    key=Depends(llm_key),
    name="triage",
)

app = FastAPI(title="Server triage")
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
app.add_middleware(SlowAPIMiddleware)


class Incident(BaseModel):
    logs: str = Field(max_length=100_000)


class Advice(BaseModel):
    advice: str


@app.post("/api/ai/triage", dependencies=[Depends(per_user)])
async def triage(incident: Incident) -> Advice:
    return Advice(advice=f"Restart what the first line names: {incident.logs.partition(chr(10))[0]}")


@app.get("/", include_in_schema=False)
async def page() -> FileResponse:
    return FileResponse(Path(__file__).with_name("index.html"))


if __name__ == "__main__":
    uvicorn.run("app:app", port=settings.port, proxy_headers=False)
