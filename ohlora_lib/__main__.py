"""`python -m ohlora_lib` is `ohlora`."""

from ohlora_lib.cli import main

main()
