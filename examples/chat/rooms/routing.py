from django.urls import path

from rooms.consumers import ChatConsumer

websocket_urlpatterns = [path("ws/rooms/<slug:slug>/", ChatConsumer.as_asgi())]
