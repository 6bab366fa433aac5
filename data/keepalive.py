"""When a connection whose other side is silent is given up, by both sides."""

SILENCE = 30  # seconds
PROBES = 4


def client(seconds: int = SILENCE) -> dict[str, int]:
    """What libpq is told; a question that nobody receives is given up, too."""
    return {
        "connect_timeout": 5,
        "keepalives_idle": _idle(seconds),
        "keepalives_interval": _interval(seconds),
        "keepalives_count": PROBES,
        "tcp_user_timeout": seconds * 1000,
    }


def server(seconds: int = SILENCE) -> dict[str, int]:
    """What PostgreSQL is told for a session, whose locks are free then."""
    return {
        "tcp_keepalives_idle": _idle(seconds),
        "tcp_keepalives_interval": _interval(seconds),
        "tcp_keepalives_count": PROBES,
        "tcp_user_timeout": seconds * 1000,
    }


def _idle(seconds: int) -> int:
    return max(1, seconds // 3)


def _interval(seconds: int) -> int:
    return max(1, seconds // 6)
