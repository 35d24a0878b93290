"""A part in a thread of its own."""

from policies.pool.home import Home
from policies.toy import Toy


class Ending:
    """A thread that has done all its work and has not ended yet."""

    def is_alive(self):
        return True


def test_a_thread_may_be_ended_at_the_moment_it_ends():
    home = Home(Toy, None)
    home.enter().result(10)
    home.leave().result(10)
    home._thread.join(10)
    assert not home._thread.is_alive()
    home.end()
    home._thread = Ending()
    home.end()
