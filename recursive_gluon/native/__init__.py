"""The native core: C++ that runs recursive programs as one call. Everything works without it, only slower."""
from .build import BuildError
from .cuda import CudaStatus, build_cuda, cuda_status, open_cuda
from .loading import Status, library, loaded, operator_library, skeleton, status

__all__ = ["BuildError", "CudaStatus", "Status", "build_cuda", "cuda_status", "library", "loaded", "open_cuda",
           "operator_library", "skeleton", "status"]
