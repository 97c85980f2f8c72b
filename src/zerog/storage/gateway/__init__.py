"""The REST gateway: stored files for browsers and curl.

::

    GET  /file?root=0x…|txSeq=N[&name=fn]     the file, proof-checked, ranges served
    GET  /file/:cid/*path                     a file or listing inside a directory manifest
    GET  /file/info/:cid                      what the nodes say about it
    GET  /files/info?cid=a&cid=b              the same for many
    GET  /node/status
    POST /file/segment                        one segment with its proof

``cid`` is a sequence number or a root. Answers other than files are ``{code, message, data}`` with HTTP status
200, or 600 when the gateway itself failed, as in 0G's gateway.
"""

from zerog.storage.gateway.service import GatewayService, GatewaySettings

__all__ = ["GatewayService", "GatewaySettings"]
