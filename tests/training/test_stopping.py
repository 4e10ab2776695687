"""A stop from outside is a request; a SIGTERM takes effect after the block has saved."""

import signal

from ohlora_lib.training.stopping import stop_on_interrupt


def test_a_sigterm_is_deferred_until_the_block_ends():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda *_: seen.append("arrived"))
    try:
        for pass_on in (True, False):
            with stop_on_interrupt(pass_on=pass_on) as asked:
                signal.raise_signal(signal.SIGTERM)
                seen.append(asked == [signal.SIGTERM])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # restored
    assert seen == [True, "arrived", True]
