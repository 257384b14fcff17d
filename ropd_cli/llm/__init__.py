"""Model calls: one client for every OpenAI-compatible endpoint, and its cache.

Start reading at ``client``: a call is answered by ``cache``, else sent by ``sender`` (one attempt: ``limits``,
``breaker``, ``money``, ``structured`` for the form of JSON, ``request_json``, ``reply_json`` and ``faults`` for the
bytes) over a ``transport`` (HTTP: ``openai_sdk``), and again as ``retry`` says. ``shared`` is what the clients of a run
have in common, ``api_key`` what lets them in, ``batch`` the Batch API. Nothing is imported here: the SDK is loaded by
the first request.
"""
