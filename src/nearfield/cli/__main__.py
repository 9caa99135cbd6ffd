"""``python -m nearfield.cli``."""

from nearfield.cli import main

main()
