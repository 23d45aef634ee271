"""Bytes in, bytes out: everything that knows a socket, an epoll, or the order of a request's steps."""
