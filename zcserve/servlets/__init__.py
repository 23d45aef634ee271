"""Python functions, and WSGI and ASGI applications, as resources. Knows the exchange, and no socket."""
