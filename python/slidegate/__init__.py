"""Rate limiting for FastAPI that counts natively, exactly, and without locks."""

from ._core import __version__
from .decision import Decision
from .errors import ConfigurationError, RateLimitExceeded
from .extension import Limiter, _rate_limit_exceeded_handler

__all__ = [
    "ConfigurationError",
    "Decision",
    "Limiter",
    "RateLimitExceeded",
    "__version__",
    "_rate_limit_exceeded_handler",
]
