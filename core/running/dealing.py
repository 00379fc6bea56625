"""Dealing images to the ranks of a run, so that all finish together although some images need more attempts."""

from math import ceil


class Dealer:
    """Deals ids to one rank, in groups, from the list that all ranks share.

    A counter that all ranks add to says how many ids are dealt. As long as many are left, groups are of batch_size.
    Then a rank holds no more than its share of the rest, so that its batches shrink, and no rank is left with a
    batch of images that need all attempts when the others are done.
    """

    def __init__(self, ids, batch_size, ranks):
        self.ids, self.batch_size, self.ranks = ids, batch_size, ranks
        self.dealt = ranks.counter("images dealt")
        self.held = 0  # images that this rank has got and not finished

    def groups(self):
        """Yields lists of ids; [] where the rank should first finish some of those that it holds."""
        while (left := len(self.ids) - self.dealt.total()) > 0:
            size = self._size(left)
            if size == 0:
                yield []
                continue
            end = self.dealt.add(size)
            group = self.ids[end - size : end]  # shorter, or empty, where other ranks have got the last ones
            self.held += len(group)
            if group:
                yield group

    def _size(self, left):
        share = ceil(left / self.ranks.world_size)
        if share >= self.batch_size:
            return self.batch_size
        return max(share - self.held, 0 if self.held else 1)

    def finished(self, number):
        """This many images of this rank are finished."""
        self.held -= number
