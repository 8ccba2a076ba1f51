"""What a level of a power domain means in caps.

Who calls it: `step`, `replay.row`, and `serving`, which runs without numpy and so without `step`.
"""

from __future__ import annotations

from capstan.powercap.domains import NO_CAPS, ClassCaps, Domain, Level, Scheme, tightest


def caps_at(domain: Domain, level: Level, floor: Level = Level.NORMAL, *, hard: bool = True) -> ClassCaps:
    """Return the caps of a level.

    Args:
        domain: Its caps, safe setting and scheme count.
        level: The level.
        floor: FailSafe is never looser than this level, from which it was entered.
        hard: Whether Brake holds high priority, too; it begins with low priority alone.
    """
    caps, limit_w = domain.caps, domain.safe.power_limit_w if domain.safe else None
    all_alike = domain.scheme is Scheme.ONE_THRESHOLD_ALL
    high_mhz = caps.low_deep_mhz if all_alike else caps.high_mhz
    match level:
        case Level.LOW_BASE:
            return ClassCaps(low_mhz=caps.low_base_mhz)
        case Level.LOW_DEEP:
            return ClassCaps(caps.low_deep_mhz, high_mhz if all_alike else None)
        case Level.HIGH_CAP:
            return ClassCaps(caps.low_deep_mhz, high_mhz)
        case Level.BRAKE if hard:
            return ClassCaps(caps.brake_mhz, caps.brake_mhz, limit_w)
        case Level.BRAKE:  # the first two seconds: low priority at the brake clock, high at its own cap
            return ClassCaps(caps.brake_mhz, high_mhz)
        case Level.FAIL_SAFE:
            blind = ClassCaps(caps.low_deep_mhz, high_mhz, limit_w)
            return tightest(blind, caps_at(domain, floor))
        case Level.NORMAL | Level.DISARMED:
            return NO_CAPS
