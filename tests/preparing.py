"""Prepares data as users do, in a process that all tests share: to start one takes a second."""

import atexit
from functools import partial

from seqgen.config import LimitsConfig
from seqgen.data import prepare as preparing
from seqgen.data.encoding import Readers
from seqgen.data.passes import LocalEngine

READERS = Readers(LimitsConfig(), workers=1)
atexit.register(READERS.__exit__)
prepare = partial(preparing.prepare, engine=LocalEngine(READERS))
