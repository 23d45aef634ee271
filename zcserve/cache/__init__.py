"""Content in memory: found, read, hashed, kept, evicted. Knows no socket; works without a server."""
