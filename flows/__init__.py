"""When things happen."""

import gc

# A command imports half a million objects that stay; to look for garbage among them again and
# again takes a sixth of its start.
gc.set_threshold(100_000, 20, 100)
