"""The AI endpoints of a job-search assistant: each has a limit for every user, whatever the job.

    pip install 'slidegate[settings]' fastapi uvicorn
    python app.py                # or uvicorn app:app --no-proxy-headers: without that, uvicorn believes X-Forwarded-For

| variable | default | |
|---|---|---|
| CLOUD_MODE | false | users are told apart by X-CF-User-ID, set by the cloud's session middleware; else by address |
| CLOUD_GATEWAY | 127.0.0.1 | where that comes from: addresses and networks, with commas; nobody else is believed |
| IS_DEMO | false | nothing is limited |
| LLM_RATE_COVER_LETTER, LLM_RATE_RESEARCH, LLM_RATE_QA, LLM_RATE_INTERVIEW, LLM_RATE_SURVEY | below | other limits |
| PORT | 8000 | |
"""

from __future__ import annotations

import uvicorn
from fastapi import APIRouter, Depends, FastAPI
from pydantic import BaseModel
from pydantic_settings import BaseSettings

from slidegate import Limiter, RateLimit, RateLimitExceeded, _rate_limit_exceeded_handler
from slidegate.keys import header, remote_address


class Settings(BaseSettings):
    cloud_mode: bool = False
    cloud_gateway: str = "127.0.0.1"
    is_demo: bool = False
    port: int = 8000


settings = Settings()
user = remote_address()
if settings.cloud_mode:
    gateway = [each.strip() for each in settings.cloud_gateway.split(",")]
    user = header("X-CF-User-ID", trusted_proxies=gateway, fallback=remote_address(gateway))

# Reads LLM_RATE_COVER_LETTER and so on: "30/hour", or "off". A limit with a typo is an error here, a name with one a
# warning when it starts.
limiter = Limiter(key_func=user, enabled=not settings.is_demo, env_prefix="LLM_RATE_", headers_enabled=True)


class Text(BaseModel):
    text: str


jobs = APIRouter(prefix="/api/jobs/{job_id}")


@jobs.post("/cover_letter/generate", dependencies=[Depends(RateLimit("20/hour", name="cover-letter"))])
async def generate_cover_letter(job_id: int) -> Text:
    return Text(text=f"Dear hiring manager of job {job_id}, ...")


@jobs.post("/research/generate", dependencies=[Depends(RateLimit("10/hour", name="research"))])
async def generate_research(job_id: int) -> Text:
    return Text(text=f"The company behind job {job_id} was founded ...")


@jobs.post("/qa/suggest", dependencies=[Depends(RateLimit("30/hour", name="qa"))])
async def suggest_answers(job_id: int, question: Text) -> Text:
    return Text(text=f"To {question.text!r}, I would answer ...")


@jobs.post("/survey/assist", dependencies=[Depends(RateLimit("30/hour", name="survey"))])
async def assist_with_survey(job_id: int, question: Text) -> Text:
    return Text(text=f"{question.text!r} asks for ...")


app = FastAPI(title="Job-search assistant")
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)
app.include_router(jobs)


@app.post("/api/wizard/ai/interview", dependencies=[Depends(RateLimit("60/hour", name="interview"))])
async def interview(answer: Text) -> Text:
    return Text(text=f"You said {answer.text!r}. What did you learn from it?")


if __name__ == "__main__":
    # slidegate itself looks behind the gateway; uvicorn would put what a header says in the place of its address.
    uvicorn.run("app:app", port=settings.port, proxy_headers=False)
