"""Who is in a room: rows that open pages renew, kept in the database so that every process sees the same."""

from uuid import UUID

from django.db.models.functions import Now

from rooms.models import Presence, Room


def renew(room: Room, connection: UUID, visitor: str, name: str) -> None:
    """Say that the page behind `connection` is there now; a row that had expired comes back."""
    Presence.objects.update_or_create(
        connection=connection, defaults={"room": room, "visitor": visitor, "name": name, "seen": Now()}
    )


def leave(connection: UUID) -> None:
    Presence.objects.filter(connection=connection).delete()


def people(room: Room) -> list[dict[str, str]]:
    """Everybody in `room` by name; someone with several pages open counts once."""
    rows = Presence.objects.alive().filter(room=room).order_by("seen").values_list("visitor", "name")
    # Later rows win, so that a new name replaces the old one at once.
    names = dict(rows)
    return [{"visitor": v, "name": n} for v, n in sorted(names.items(), key=lambda item: (item[1].lower(), item[0]))]


def sweep() -> None:
    """Remove what expired; nothing depends on when this happens."""
    Presence.objects.expired().delete()
