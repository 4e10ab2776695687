"""Lets `python -m ohlora_lib` run the `ohlora` command."""

from ohlora_lib.cli import main

main()
