"""Sign-in, as the doctor sees it."""

from flows import service, users
from flows.finding import Finding, fail, few, ok
from flows.settings import Settings


def sign_in(settings: Settings) -> Finding:
    """Whether people sign in, and only the owner reads what they are let in by."""
    if not settings.sign_in:
        return ok("sign-in", "off: there are no users")
    places = [settings.root / name for name in (users.USERS, service.SECRET)]
    loose = [str(path) for path in places if path.exists() and path.stat().st_mode & 0o077]
    if loose:
        return fail("sign-in", f"others may read {few(loose)}", f"`chmod 600 {' '.join(loose)}`")
    people = users.active(users.load(settings.root))
    return ok("sign-in", f"on: {few(f'{user.name} ({user.role})' for user in people)}")
