"""The KV layer: streams of keys and values with access control, replayed from the flow.

`stream` is the codec, `access` the rules, `content` the bytes, `store` the state, `replay` what applies one to the
other, `api` the JSON-RPC methods, `watch` the subscriptions, `service` all of it as a service of a node.
"""
