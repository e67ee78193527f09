"""``python -m l2dm`` is the ``l2dm`` command."""

from .cli import main

main()
