"""``python -m appulse``."""

from appulse.cli import main

main()
