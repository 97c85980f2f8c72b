"""The model behind OpenAI's HTTP API, with a receipt on every answer.

::

    curl localhost:8545/v1/chat/completions -d '{"model": "SmolLM2-135M-Instruct",
        "messages": [{"role": "user", "content": "Name a colour."}]}'

Official clients work unchanged; what is not OpenAI's lies in a member ``zerog`` and in headers that
they ignore. A receipt commits to the HTTP body as it came and to the text that was generated; the
0G text signature covers both HTTP bodies as they were sent. Parts:

* `questions` - from a body to parameters, or to the error that OpenAI's API would give.
* `receipts` - who asks, and the bounded memory of what was answered.
* `replies` - the answers in OpenAI's form, whole and in events.
* `generation` - one generation in a thread, and its end when the client goes.
* `service` - the routes.
"""

from zerog.inference.endpoint.service import EndpointService, EndpointSettings

__all__ = ["EndpointService", "EndpointSettings"]
