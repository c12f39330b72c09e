"""The ASGI application: Django for HTTP, a consumer per room for WebSocket, one for the background job."""

import os

from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from channels.sessions import SessionMiddlewareStack
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
django_application = get_asgi_application()  # loads the apps; what imports models comes after it

from rooms import routing  # noqa: E402
from rooms.jobs import ThumbnailConsumer  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": django_application,
        "websocket": AllowedHostsOriginValidator(SessionMiddlewareStack(URLRouter(routing.websocket_urlpatterns))),
        "channel": ChannelNameRouter({"thumbnail": ThumbnailConsumer.as_asgi()}),
    }
)
