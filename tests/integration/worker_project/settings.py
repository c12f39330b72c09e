"""Settings of the smallest project that a worker can run; INSTALLED_APPS is what the tests vary."""

import os

from trunkline.env import channel_layers_from_env

SECRET_KEY = "only for tests"
INSTALLED_APPS = os.environ.get("WORKER_PROJECT_APPS", "trunkline,channels").split(",")
ASGI_APPLICATION = "worker_project.application.application"
CHANNEL_LAYERS = channel_layers_from_env()
DATABASES: dict[str, object] = {}
USE_TZ = True
