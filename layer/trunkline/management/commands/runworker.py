"""``manage.py runworker``: serves named channels with the project's application, and ends without dropping work."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from argparse import ArgumentParser
from typing import Any

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import get_channel_layer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, get_default_application
from django.core.exceptions import ImproperlyConfigured
from django.core.management import BaseCommand, CommandError

from trunkline.errors import ConfigurationError
from trunkline.names import check_channel
from trunkline.serve.lifecycle import StopSignals, drain_timeout
from trunkline.serve.worker import Outcome, Worker


class Command(BaseCommand):  # type: ignore[misc]
    help = (
        "Runs the consumers of the named channels. SIGTERM and SIGINT let running handlers finish for "
        "TRUNKLINE_DRAIN_TIMEOUT seconds (30); a second signal doesn't wait. Exits with 0 when every handler "
        "finished, else with 1."
    )
    leave_locale_alone = True
    worker_class = Worker

    def add_arguments(self, parser: ArgumentParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--layer", default=DEFAULT_CHANNEL_LAYER, help="Channel layer alias to use, if not the default."
        )
        parser.add_argument("channels", nargs="+", help="Channels to listen on.")

    def handle(self, *args: Any, **options: Any) -> None:
        with StopSignals() as signals:
            layer = get_channel_layer(options["layer"])
            if layer is None:
                raise CommandError(f"CHANNEL_LAYERS has no layer {options['layer']!r}.")
            try:
                application = get_default_application()
                drain_s = drain_timeout(os.environ)
                channels = [check_channel(name, receive=True) for name in options["channels"]]
            except (ImproperlyConfigured, ConfigurationError, TypeError) as exc:
                raise CommandError(str(exc)) from exc
            refuse_unknown(application, channels)
            worker = self.worker_class(application, channels, layer, drain_s=drain_s)
            signals.tell(worker.stop)
            self.stdout.write(f"Worker {os.getpid()} listens on {', '.join(worker.channels)}.")
            self.stdout.flush()
            outcome = asyncio.run(_run(worker))
        if outcome is Outcome.FAILED:
            raise CommandError("The worker ended because a channel can't be received from; see the error above.")


async def _run(worker: Worker) -> Outcome:
    outcome = await worker.run()
    if outcome is Outcome.CUT:
        # A handler that runs in a thread can't be cancelled, and the interpreter would wait for it at its end.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)
    return outcome


def refuse_unknown(application: Any, channels: list[str]) -> None:
    """Say at start what would otherwise be found out message by message: nothing handles a channel.

    :raises CommandError: when the application is made of Channels' routers and has no entry for a channel.
    """
    router = application
    if isinstance(router, ProtocolTypeRouter):
        router = router.application_mapping.get("channel")
        if router is None:
            raise CommandError(
                "The ASGI application has no entry 'channel' in its ProtocolTypeRouter, so no consumer can handle "
                f"what comes on {', '.join(channels)}."
            )
    if isinstance(router, ChannelNameRouter):
        known = sorted(router.application_mapping)
        for channel in channels:
            if channel not in known:
                raise CommandError(
                    f"The ASGI application has no consumer for channel {channel!r} in its ChannelNameRouter; "
                    f"it has {', '.join(known) or 'none'}."
                )
