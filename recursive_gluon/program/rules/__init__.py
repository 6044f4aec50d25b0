"""Pure tables over MXNet operators: how one runs over many frames at once, and how its gradient is built."""
