"""The wire: authenticate, authorise, convert, call one service, convert back.

::

    request ─► StatusInterceptor   errors to status
            ─► CallLimit           is there room for the call
            ─► AuthInterceptor     who calls, and may they
            ─► DecodeInterceptor   bytes to message
            ─► servicer            one call of services.py

The only place in the agent that knows gRPC and proto messages. It decides nothing.
"""
