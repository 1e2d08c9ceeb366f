"""The loop that closes connections which nobody uses; it ends when there are none left, and is started again.

Several processes may each have one: each looks after its own connections.
"""

import threading
import time
from collections.abc import Callable


class IdleLoop:
    """Calls `expire(now)` every `interval_s` until it says that nothing is left, or `stop`."""

    def __init__(self, expire: Callable[[float], bool], *, interval_s: float) -> None:
        self._expire = expire
        self._interval_s = interval_s
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()

    def start(self) -> None:
        """Bears being called twice."""
        with self._lock:
            if self._thread is None and not self._stopping.is_set():
                self._thread = threading.Thread(target=self._loop, name="droplet-idle", daemon=True)
                self._thread.start()

    def stop(self) -> None:
        """Bears being called twice; the loop cannot be started again."""
        self._stopping.set()
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join()

    def run_once(self, now: float) -> bool:
        """Expire once; whether there is anything left to look after."""
        return self._expire(now)

    def _loop(self) -> None:
        while not self._stopping.wait(self._interval_s):
            with self._lock:  # so that a start either finds us running, or finds no thread
                if not self.run_once(time.monotonic()):
                    self._thread = None
                    return
        with self._lock:
            self._thread = None
