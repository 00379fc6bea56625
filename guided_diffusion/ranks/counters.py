"""Numbers that all ranks add to."""

import time

_PAUSE = 0.5  # seconds between two questions to the store, which is on the first rank's machine


class Counter:
    """A number that all ranks add to, in the store of torch.distributed; without a store, this process alone."""

    def __init__(self, store, name):
        self.store, self.key = store, f"counter/{name}"
        self.known, self.kept, self.asked = 0, 0, 0.0

    def add(self, amount):
        """Adds at once -> the sum with it. No two ranks get the same sum."""
        amount, self.kept = amount + self.kept, 0
        self.known = self.known + amount if self.store is None else self.store.add(self.key, amount)
        self.asked = time.monotonic()
        return self.known

    def total(self):
        """The sum of all ranks, as it is now."""
        return self.add(0)

    def count(self, amount):
        """Adds when it is time to -> what is known of the sum, which is some tenths of a second old.

        For what is counted often: it does not ask the store each time.
        """
        self.kept += amount
        if self.store is None or time.monotonic() - self.asked > _PAUSE:
            return self.add(0)
        return self.known + self.kept
