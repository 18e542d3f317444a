"""How numbers are written in tables and sentences."""

SUFFIXES = ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def seconds(value: float | None) -> str:
    """Write three digits: 12.3 ms."""
    if value is None:
        return "-"
    if value >= 1:
        return f"{value:.2f} s" if value < 100 else f"{value:,.0f} s"
    if value < 1e-3:
        return f"{value * 1e6:.0f} µs"
    return f"{value * 1e3:.{3 - len(str(int(value * 1e3)))}f} ms"


def megabytes(n_bytes: int | None) -> str:
    """Write in units of a million bytes, or of a thousand if there are few."""
    if n_bytes is None:
        return "-"
    return f"{n_bytes / 1e6:,.2f} MB" if n_bytes >= 1e5 else f"{n_bytes / 1e3:.1f} kB"


def rate(per_second: float | None, unit: str) -> str:
    """Write with the prefix that fits: 36.1 GB/s."""
    if per_second is None:
        return "-"
    for factor, prefix in SUFFIXES:
        if per_second >= factor:
            return f"{per_second / factor:.3g} {prefix}{unit}/s"
    return f"{per_second:.3g} {unit}/s"


def number(value: int | None) -> str:
    """Write a count."""
    return "-" if value is None else f"{value:,}"


def digits(value: float | None) -> str:
    """Show as many digits as tell something."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.1g}"


def percent(value: float | None) -> str:
    """Write a share: 0.5 is 50%."""
    return "-" if value is None else f"{value:.0%}"


def above(value: float | None, base: float | None) -> str:
    """Write how far a value lies above another one: +8%, or x20."""
    if value is None or not base:
        return "-"
    ratio = value / base
    return f"{ratio - 1:+.0%}" if ratio < 10 else f"x{ratio:.0f}"
