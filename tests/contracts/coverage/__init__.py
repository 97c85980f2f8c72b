"""Line and branch coverage of the Solidity sources, measured on the devnet.

::

    python -m tests.contracts.coverage              # runs the contract tests, prints the table, exit code 1 below 100 %
    python -m tests.contracts.coverage -k registry  # any arguments of pytest

How it works. `build` compiles the contracts without optimiser, so that every instruction belongs to the line that it
was made from. `recorder`, a pytest plugin, puts that build under the tests and traces every transaction and every call
that they make, refused ones included. `sources` reads from the syntax tree what can be reached, `programs` maps program
counters to places in the source, and `report` brings both together.

What counts.

* A **line** counts when a statement begins on it: it is reached when an instruction of every such statement was
  executed.
* A **branch** is one of the two ways out of an ``if``, a loop's condition, ``?:``, ``try``, and of each ``&&`` and
  ``||`` (was the right side needed or not?), of Yul's ``if``, ``switch`` and ``for`` as well.
* Jumps that the compiler adds to every program are not branches of the source and do not count: dispatch of selectors,
  decoding and its size checks, refusal of value, checks of arithmetic, array bounds and enumerations. They belong to no
  construct of the source, so nothing has to be listed or excluded by hand.
"""
