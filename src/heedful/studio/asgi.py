"""The studio as an ASGI application, for `heedful studio` and for any server that takes one.

Read from the environment: HEEDFUL_STUDIO_FOLDER, HEEDFUL_STUDIO_DATABASE (or DATABASE_URL), HEEDFUL_STUDIO_RUNS,
HEEDFUL_STUDIO_PUBLIC_URL, HEEDFUL_STUDIO_HOSTS (separated by commas), HEEDFUL_STUDIO_LAN, HEEDFUL_STUDIO_WORKERS (how
many processes share the database), HEEDFUL_STUDIO_STATIC (collected static files), HEEDFUL_STUDIO_LOG (text or json).
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any, cast

from heedful.studio.config import LogFormat, StudioConfig
from heedful.studio.setup import configure_served

RATING = re.compile(r"/p/[^/]+/rate/")
"""What raters wait for between two items."""


def made() -> Any:
    """The application, configured once in a process."""
    config = StudioConfig(
        folder=Path(os.environ.get("HEEDFUL_STUDIO_FOLDER") or "."),
        database=os.environ.get("HEEDFUL_STUDIO_DATABASE") or None,
        runs=Path(runs) if (runs := os.environ.get("HEEDFUL_STUDIO_RUNS")) else None,
        public_url=os.environ.get("HEEDFUL_STUDIO_PUBLIC_URL", ""),
        lan=bool(os.environ.get("HEEDFUL_STUDIO_LAN")),
        workers=int(os.environ.get("HEEDFUL_STUDIO_WORKERS") or 1),
        log_format=cast(LogFormat, os.environ.get("HEEDFUL_STUDIO_LOG") or "text"),
    )
    static = os.environ.get("HEEDFUL_STUDIO_STATIC")
    hosts = [host for host in os.environ.get("HEEDFUL_STUDIO_HOSTS", "").split(",") if host]
    configure_served(config, hosts, Path(static) if static else None)
    from django.core.wsgi import get_wsgi_application

    from heedful.studio.threads import Threaded, threads_each
    from heedful.studio.workers import end_with_parent

    end_with_parent()
    application = get_wsgi_application()
    _warm_up()
    return Threaded(application, RATING.match, threads=threads_each(config.workers))


def _warm_up() -> None:
    """Read what the first request would read, so that a worker is slow before it serves and not after."""
    from django.conf import settings
    from django.template.loader import get_template
    from django.urls import get_resolver
    from django.utils import translation

    get_resolver().url_patterns  # noqa: B018 (it imports every page)
    for language, _ in settings.LANGUAGES:
        with translation.override(language):
            translation.gettext("")
    get_template("studio/base.html")


application = made()
