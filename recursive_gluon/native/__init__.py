"""The native core: C++ that runs recursive programs as one call. Everything works without it, only slower."""
from .loading import Status, library, operator_library, status

__all__ = ["Status", "library", "operator_library", "status"]
