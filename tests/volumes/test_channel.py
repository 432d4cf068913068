"""Threads that hand things over."""

import threading
import time
from contextlib import suppress

import pytest

from seewhy.volumes.channel import Channel, ChannelEnd


def run(target):
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def test_items_come_in_order_and_the_faster_side_waits():
    channel, largest = Channel(2), []

    def produce():
        for item in range(50):
            channel.put(item)
            largest.append(len(channel._items))
        channel.end()

    thread = run(produce)
    taken = []
    with suppress(ChannelEnd):
        while True:
            taken.append(channel.get())
    thread.join(5)
    assert taken == list(range(50))
    assert max(largest) <= 2


def test_an_error_of_the_producer_comes_before_what_waits():
    channel = Channel(2)
    channel.put(1)
    channel.fail(OSError("disk"))
    channel.fail(OSError("later"))
    for call in (channel.get, channel.check, lambda: channel.put(2)):
        with pytest.raises(OSError, match="disk"):
            call()


@pytest.mark.parametrize(
    "stop", [lambda channel: channel.fail(OSError("disk")), lambda channel: channel.end(drop=True)]
)
def test_a_waiting_producer_is_woken(stop):
    channel, seen = Channel(1), []
    channel.put(1)

    def produce():
        try:
            channel.put(2)
        except (OSError, ChannelEnd) as error:
            seen.append(type(error))

    thread = run(produce)
    time.sleep(0.05)
    stop(channel)
    thread.join(5)
    assert len(seen) == 1
