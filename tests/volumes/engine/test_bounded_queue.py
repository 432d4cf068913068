"""Threads that hand things over."""

import threading
import time
from contextlib import suppress

import pytest

from seewhy.volumes.engine.bounded_queue import BoundedQueue, QueueEnd


def run(target):
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread


def test_items_come_in_order_and_the_faster_side_waits():
    channel, largest = BoundedQueue(2), []

    def produce():
        for item in range(50):
            channel.put(item)
            largest.append(len(channel._items))
        channel.end()

    thread = run(produce)
    taken = []
    with suppress(QueueEnd):
        while True:
            taken.append(channel.get())
    thread.join(5)
    assert taken == list(range(50))
    assert max(largest) <= 2


def test_an_error_of_the_producer_comes_before_what_waits():
    channel = BoundedQueue(2)
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
    channel, seen = BoundedQueue(1), []
    channel.put(1)

    def produce():
        try:
            channel.put(2)
        except (OSError, QueueEnd) as error:
            seen.append(type(error))

    thread = run(produce)
    time.sleep(0.05)
    stop(channel)
    thread.join(5)
    assert len(seen) == 1
