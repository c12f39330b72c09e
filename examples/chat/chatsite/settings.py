"""Settings of the chat example: safe without any, tuned by the environment.

| variable | meaning | default |
|---|---|---|
| DJANGO_SECRET_KEY | the signing key, the same in every process | made once, kept in the data directory |
| DJANGO_ALLOWED_HOSTS | host names the site answers to, separated by commas | localhost and the loopback addresses |
| DJANGO_CSRF_TRUSTED_ORIGINS | origins such as https://chat.example.org, when a proxy ends TLS | none |
| DJANGO_DEBUG | 1 shows tracebacks to visitors | 0 |
| DATABASE_URL | postgres://user:password@host/name | SQLite in the data directory |
| CHAT_DATA_DIR | where SQLite and the key live | data/ beside manage.py |
| DJANGO_STATIC_ROOT | where collectstatic writes | static-root/ beside manage.py |

Each may end in _FILE to name a file with the value. The channel layer has variables of its own; see
`trunkline.env.channel_layers_from_env`.
"""

import os
import sys
from pathlib import Path

import dj_database_url

from chatsite.environment import key_from_file, read, read_flag, read_list
from trunkline.env import channel_layers_from_env

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = Path(read("CHAT_DATA_DIR", str(BASE_DIR / "data")))

DEBUG = read_flag("DJANGO_DEBUG")
SECRET_KEY = read("DJANGO_SECRET_KEY") or key_from_file(DATA_DIR / "secret-key")
ALLOWED_HOSTS = read_list("DJANGO_ALLOWED_HOSTS", "localhost 127.0.0.1 [::1]")
CSRF_TRUSTED_ORIGINS = read_list("DJANGO_CSRF_TRUSTED_ORIGINS")

INSTALLED_APPS = [
    "daphne",  # gives `manage.py runserver` WebSockets
    "trunkline",  # before channels: its `runworker` lets handlers finish at stop
    "channels",
    "django.contrib.staticfiles",
    "rooms",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "chatsite.urls"
ASGI_APPLICATION = "chatsite.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "rooms.identity.template_context",
            ]
        },
    }
]

CHANNEL_LAYERS = channel_layers_from_env()

# A visitor's name travels in the signed cookie, so sessions need no table.
SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
SESSION_COOKIE_AGE = 60 * 60 * 24 * 90  # seconds
# Cookies are bound to TLS as soon as the site says that visitors come by https.
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = bool(CSRF_TRUSTED_ORIGINS) and all(
    origin.startswith("https://") for origin in CSRF_TRUSTED_ORIGINS
)

DATABASES = {"default": dj_database_url.parse(read("DATABASE_URL") or f"sqlite:///{DATA_DIR / 'chat.sqlite3'}")}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    DATA_DIR.mkdir(parents=True, exist_ok=True)
    # Several processes write: readers go on beside the one writer (WAL), writers queue up at BEGIN
    # (IMMEDIATE) instead of failing in the middle of a transaction, and wait 20 s for their turn.
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

STATIC_URL = "static/"
STATIC_ROOT = Path(read("DJANGO_STATIC_ROOT", str(BASE_DIR / "static-root")))
if not DEBUG and "test" not in sys.argv:
    STORAGES = {
        "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
        "staticfiles": {"BACKEND": "chatsite.static_files.StaticFiles"},
    }

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_TZ = True
USE_I18N = False

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": read("DJANGO_LOG_LEVEL", "INFO").upper()},
    # Django would mail server errors to nobody; here they go where everything goes.
    "loggers": {"django": {"handlers": ["console"], "level": "INFO", "propagate": False}},
}

# --- the chat itself ---

# Which code this is: the deployment's name for it, shown on the page and by /whoami.
RELEASE = os.environ.get("TRUNKLINE_RELEASE") or "development"
# A page says every so often that it is still there; who is silent for longer than PRESENCE_EXPIRY is gone.
# Browsers let a hidden page run only once a minute, hence the distance between the two.
PRESENCE_HEARTBEAT = 15  # seconds
PRESENCE_EXPIRY = 75  # seconds
HISTORY_LENGTH = 100  # messages that a page shows
MESSAGE_LENGTH = 2000  # characters
PICTURE_BYTES = 8 * 1024 * 1024
PICTURE_PIXELS = 40_000_000  # a few kilobytes can unpack to gigabytes: judged before anything is unpacked
THUMBNAIL_SIZE = (480, 360)  # pixels, width and height
DATA_UPLOAD_MAX_MEMORY_SIZE = FILE_UPLOAD_MAX_MEMORY_SIZE = PICTURE_BYTES + 64 * 1024
