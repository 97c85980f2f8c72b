"""The flow: the log of all submissions, as the chain's contract keeps it, and how a node follows it."""
