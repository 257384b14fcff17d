"""Model calls: one client for every OpenAI-compatible endpoint, its cache, and the embedded provider.

Start reading at ``client``. Nothing is imported here: the SDK is loaded by the first request.
"""
