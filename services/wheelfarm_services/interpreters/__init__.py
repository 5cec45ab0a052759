"""Python distributions that the farm keeps in its store, and gives to uv (uv#8015)."""

from wheelfarm_services.interpreters.shelf import InterpreterShelf

__all__ = ["InterpreterShelf"]
