"""``manage.py runworker``: serves named channels with the project's application, and ends without dropping work."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from channels import DEFAULT_CHANNEL_LAYER
from channels.layers import get_channel_layer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, get_default_application
from django.core.exceptions import ImproperlyConfigured
from django.core.management import BaseCommand, CommandError

from trunkline.errors import ConfigurationError
from trunkline.names import address_of, check_channel
from trunkline.serve.deployment import AT_LEAST_ONCE, DELIVERIES, worker_delivery
from trunkline.serve.health import beat, health_file
from trunkline.serve.lifecycle import StopSignals, drain_timeout
from trunkline.serve.worker import Outcome, Worker

logger = logging.getLogger("trunkline.worker")


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
        parser.add_argument(
            "--delivery",
            choices=DELIVERIES,
            help="at-least-once: a message stays on its server until its handler has returned, and is given again when "
            "the handler failed or its worker died; the fifth time it goes to the dead letters. Default: what "
            "TRUNKLINE_WORKER_DELIVERY says, else at-most-once.",
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
                beating = health_file(os.environ)
                channels = [check_channel(name, receive=True) for name in options["channels"]]
                delivery = options["delivery"] or worker_delivery(os.environ)
            except (ImproperlyConfigured, ConfigurationError, TypeError) as exc:
                raise CommandError(str(exc)) from exc
            refuse_unknown(application, channels)
            at_least_once = delivery == AT_LEAST_ONCE
            if at_least_once:
                refuse_unkept(layer, channels)
            worker = self.worker_class(application, channels, layer, at_least_once=at_least_once, drain_s=drain_s)
            signals.tell(worker.stop)
            how = ", at least once" if at_least_once else ""
            self.stdout.write(f"Worker {os.getpid()} listens on {', '.join(worker.channels)}{how}.")
            self.stdout.flush()
            outcome = asyncio.run(_run(worker, beating))
        if outcome is Outcome.FAILED:
            raise CommandError("The worker ended because a channel can't be received from; see the error above.")


async def _run(worker: Worker, beating: Path | None) -> Outcome:
    heart = asyncio.ensure_future(beat(beating)) if beating is not None else None
    try:
        outcome = await worker.run()
    finally:
        if heart is not None:
            heart.cancel()
            await asyncio.wait({heart})
            if not heart.cancelled() and (error := heart.exception()):
                logger.error("TRUNKLINE_HEALTH_FILE could not be written, so this worker seemed unwell: %s", error)
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


def refuse_unkept(layer: Any, channels: list[str]) -> None:
    """:raises CommandError: where messages can't be delivered at least once."""
    if AT_LEAST_ONCE not in getattr(layer, "extensions", ()):
        raise CommandError(
            f"--delivery {AT_LEAST_ONCE} needs a channel layer that keeps messages until they are done, as "
            f"trunkline.RedisChannelLayer does; {type(layer).__module__}.{type(layer).__qualname__} does not."
        )
    for channel in channels:
        if address_of(channel) is not None:
            raise CommandError(
                f"--delivery {AT_LEAST_ONCE} is for normal channels; {channel!r} belongs to one process."
            )
