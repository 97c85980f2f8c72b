"""Decentralised storage: flow, sector store, node, KV, indexer, gateway, mining, transfer."""
