"""Audits: verifiers drawn by lot execute a receipt again and vote; a forger loses the stake.

The idea: nobody needs to believe a provider, because its answer can be computed again bit for bit.
The chain draws who does that from randomness that nobody knew when the receipt was signed; the drawn
commit to a vote before they see another's, and any objection brings a larger committee. Parts:

* `header` - the beacon: a block header as the contract can check it.
* `vote` - what a verifier signs, and its commitment.
* `journal` - what a verifier has promised, on disk before anybody hears of it.
* `sending` - transactions that survive the death of the process without being sent twice.
* `contract` - the audit contract and the registry of verifiers, as values.
* `execution` - fetch the transcript, compute it again, find the first bad leaf.
* `verifier` - the state machine that ties them together, `service` - its place beside a node.
* `watching` - challenges to receipts that nobody drew; `canary` - known-bad receipts against lazy verifiers.
* `cheats`, `cheating` - dishonest providers for a devnet, to watch them being caught.

::

    auditor = Auditor(chain, voters, executor, Journal(path))
    auditor.run(stop)

Modules load on their own: importing this package costs nothing.
"""
