"""What says that the native core cannot run a Program."""

__all__ = ["Unsupported"]


class Unsupported(Exception):
    """Why a Program cannot run on the native core, in a user's words."""
