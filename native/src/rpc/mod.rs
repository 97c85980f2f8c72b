//! HTTP + WebSocket JSON-RPC server: native namespaces and the bridge to Python handlers (skeleton).
