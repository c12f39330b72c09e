from django.urls import path, register_converter

from rooms import views


class KindConverter:
    regex = "original|thumbnail"

    def to_python(self, value: str) -> str:
        return value

    def to_url(self, value: str) -> str:
        return value


register_converter(KindConverter, "kind")

urlpatterns = [
    path("", views.room_list, name="rooms"),
    path("rooms/<slug:slug>/", views.room, name="room"),
    path("rooms/<slug:slug>/pictures/", views.upload, name="upload"),
    path("pictures/<uuid:picture_id>/<kind:kind>", views.picture, name="picture"),
    path("pictures/<uuid:picture_id>/again", views.again, name="again"),
    path("name/", views.rename, name="rename"),
    path("whoami", views.whoami, name="whoami"),
]
