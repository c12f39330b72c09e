from django import forms
from django.core.files.uploadedfile import UploadedFile
from django.utils.text import slugify

from rooms.identity import NAME_LENGTH, clean_name
from rooms.models import Room
from rooms.pictures import BadPicture, Judged, judge


class RoomForm(forms.Form):
    """Opens a room; one whose address exists already is simply entered."""

    name = forms.CharField(max_length=50, label="Room name")

    def clean_name(self) -> str:
        name = " ".join(self.cleaned_data["name"].split())
        self.slug = slugify(name.replace("_", "-"))[:50].strip("-")
        if not self.slug:
            raise forms.ValidationError("A room's name needs at least one letter from a to z, or a digit.")
        return name

    def save(self) -> Room:
        room, _ = Room.objects.get_or_create(slug=self.slug, defaults={"name": self.cleaned_data["name"]})
        return room


class NameForm(forms.Form):
    name = forms.CharField(max_length=200)

    def clean_name(self) -> str:
        name = clean_name(self.cleaned_data["name"])
        if not name:
            raise forms.ValidationError(f"A name has 1 to {NAME_LENGTH} visible characters.")
        return name


class PictureForm(forms.Form):
    picture = forms.FileField(error_messages={"required": "Choose a picture first."})

    def clean_picture(self) -> Judged:
        upload: UploadedFile = self.cleaned_data["picture"]
        try:
            return judge(upload.read())
        except BadPicture as exc:
            raise forms.ValidationError(str(exc)) from exc
