"""``python -m zerog``."""

from zerog.cli import main

main()
