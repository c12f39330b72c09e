"""Two rooms to start with, so that the first visitor isn't greeted by an empty page."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def open_rooms(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    room = apps.get_model("rooms", "Room")
    for slug, name in (("lobby", "Lobby"), ("pictures", "Pictures")):
        room.objects.get_or_create(slug=slug, defaults={"name": name})


class Migration(migrations.Migration):
    dependencies = [("rooms", "0001_initial")]
    operations = [migrations.RunPython(open_rooms, migrations.RunPython.noop)]
