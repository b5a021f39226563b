"""The wire: authenticate, authorise, convert, call one service, convert back.

::

    request ─► StatusInterceptor       errors to status
            ─► AuditInterceptor        who called what, and how it ended
            ─► AuthInterceptor         who calls, and may they
            ─► CallLimit               is there room for the call
            ─► DecodeInterceptor       bytes to message
            ─► SubjectInterceptor      what it is about, for the audit trail
            ─► VisibilityInterceptor   is it one of the caller's own jobs, where that counts
            ─► servicer                one call of services.py

The only place in the agent that knows gRPC and proto messages. It decides nothing.
"""
