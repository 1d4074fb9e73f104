"""Rate limiting for FastAPI that counts natively, exactly, and without locks."""

from . import _startup as _startup
from ._core import __version__
from .decision import Decision
from .dependencies import Gate, RateLimit
from .errors import ConfigurationError, RateLimitExceeded, WebSocketRateLimitExceeded
from .extension import Limiter, _rate_limit_exceeded_handler

__all__ = [
    "ConfigurationError",
    "Decision",
    "Gate",
    "Limiter",
    "RateLimit",
    "RateLimitExceeded",
    "WebSocketRateLimitExceeded",
    "__version__",
    "_rate_limit_exceeded_handler",
]
