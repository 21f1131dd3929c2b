"""Backpressure for web applications: middleware for ASGI and WSGI, and a server to try it on."""
