"""What SysEx messages say about drums: the standard a file follows, and channels with drums.

A channel other than 10 may have drums, by a message of Roland's GS or Yamaha's XG to that channel,
or by a bank select: which banks have drums depends on the standard.
"""

from enum import IntEnum

from seqgen.midi.programs import DRUM_CHANNEL


class Standard(IntEnum):
    """What a message resets the device to."""

    GM = 0
    GS = 1
    XG = 2
    GM2 = 3


# By the value of controller 0: whether a program that is chosen then is a drum kit.
DRUM_BANKS: dict[int, dict[int, bool]] = {
    Standard.XG: {126: True, 127: True},
    Standard.GM2: {120: True, 121: False},
}


def standard_of(message: bytes) -> Standard | None:
    """Return the standard that a message (without 0xF0) switches on; None for other messages."""
    match [*message[:1], *message[2:].removesuffix(b"\xf7")]:  # the second byte names a device
        case [0x7E, 0x09, 1]:
            return Standard.GM
        case [0x7E, 0x09, 3]:
            return Standard.GM2
        case [0x41, 0x42, 0x12, 0x40, 0, 0x7F, 0, _] | [0x41, 0x42, 0x12, 0, 0, 0x7F, _, _]:
            return Standard.GS
        case [0x43, 0x4C, 0, 0, 0x7E, 0]:
            return Standard.XG
    return None


def drum_part(message: bytes) -> tuple[int, bool] | None:
    """Return the channel that a message gives drums or takes them from; None for other messages."""
    match [*message[:1], *message[2:].removesuffix(b"\xf7")]:
        case [0x41, 0x42, 0x12, 0x40, block, 0x15, value, _] if block >> 4 == 1:
            # GS counts the drum channel first.
            part = block & 0x0F
            return (part - 1 if 0 < part <= DRUM_CHANNEL else part or DRUM_CHANNEL), value > 0
        case [0x43, 0x4C, 8, part, 7, value] if part < 16:
            return part, value > 0
    return None
