"""What several workers of a server count together."""

from __future__ import annotations

from pathlib import Path

import servers

from compat.library import Library, differs

PROGRAM = """
import os
from fastapi import FastAPI, Request
from {library} import Limiter, _rate_limit_exceeded_handler
from {library}.errors import RateLimitExceeded

limiter = Limiter(key_func=lambda: "everybody")
app = FastAPI()
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)

@app.get("/limited")
@limiter.limit("5/hour")
async def limited(request: Request):
    return os.getpid()

@app.get("/pid")
async def pid():
    return os.getpid()
"""


def test_a35_workers_count_together(library: Library, tmp_path: Path) -> None:
    program = PROGRAM.replace("{library}", library.name)
    with servers.running("uvicorn", tmp_path, workers=4, program=program) as server:
        assert len(server.workers(4)) == 4
        admitted = sum(status == 200 for status, _ in server.get_often("/limited", 100))
    expected = differs(slowapi=True, slidegate=False, difference="one-limit-per-server")
    assert (admitted > 5) is library.expected(expected)
    assert admitted >= 5
