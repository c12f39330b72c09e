"""Reads the settings that a deployment gives through its environment.

Every value may also come from a file that `<NAME>_FILE` points at, as Docker and Kubernetes mount secrets.
"""

import os
import secrets
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def read(name: str, default: str = "") -> str:
    """The value of `name`, or the stripped content of the file that `<name>_FILE` names, or `default`."""
    value, path = os.environ.get(name, ""), os.environ.get(f"{name}_FILE", "")
    if value and path:
        raise ImproperlyConfigured(f"{name} and {name}_FILE are both set; keep one of them.")
    if path:
        try:
            value = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as exc:
            raise ImproperlyConfigured(f"{name}_FILE names {path}, which can't be read: {exc}.") from exc
        if not value:
            raise ImproperlyConfigured(f"{name}_FILE names {path}, which is empty.")
    return value or default


def read_list(name: str, default: str = "") -> list[str]:
    """The items of a value that separates them by commas or blanks."""
    return read(name, default).replace(",", " ").split()


def read_flag(name: str) -> bool:
    """Whether `name` says yes; an empty or missing value is a no, anything unknown an error."""
    value = read(name).lower()
    if value in ("1", "true", "yes", "on"):
        return True
    if value in ("", "0", "false", "no", "off"):
        return False
    raise ImproperlyConfigured(f"{name} is {value!r}; write 1 or 0.")


def key_from_file(path: Path) -> str:
    """The secret key kept in `path`; the first process that asks makes it, all others read the same one.

    Only for runs on one machine: containers of one deployment need one DJANGO_SECRET_KEY.
    """
    try:
        return path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        pass
    except OSError as exc:
        raise ImproperlyConfigured(f"The secret key in {path} can't be read: {exc}.") from exc
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp makes the file private; the link then publishes the whole key at once or not at all.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
        try:
            with os.fdopen(handle, "w", encoding="ascii") as stream:
                stream.write(secrets.token_urlsafe(50) + "\n")
            try:
                os.link(temporary, path)
            except FileExistsError:
                pass  # another process was first: its key counts
        finally:
            os.unlink(temporary)
    except OSError as exc:
        raise ImproperlyConfigured(
            f"No DJANGO_SECRET_KEY is set, and a key can't be kept in {path}: {exc.strerror}."
        ) from exc
    return path.read_text(encoding="ascii").strip()
