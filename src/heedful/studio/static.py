"""Static files: under names that hold their hash, packed, kept by browsers for good.

`collect` puts them into a folder of the studio's, where those of earlier versions stay: pages that stood open over an
upgrade go on asking for them, and while workers are replaced one by one the older ones serve what the newer ones' pages
ask for.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage

UNUSED = ("ninja/*", "django_htmx/ext/*")
"""Files of dependencies that no page asks for."""


class Hashed(CompressedManifestStaticFilesStorage):
    """Hashes in the names also of what a script imports."""

    support_js_module_import_aggregation = True


class Static(WhiteNoiseMiddleware):
    """whitenoise, which also looks for files that came after this process began."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.static_root:
            self.directories.append((os.path.join(os.path.abspath(self.static_root), ""), self.static_prefix))

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """The file, or what is no file's business."""
        path = request.path_info
        if path.startswith(self.static_prefix) and path not in self.files:
            found = self.find_file(path)
            if found is not None:
                self.files[path] = found
        return cast(HttpResponse, super().__call__(request))


def collect() -> None:
    """Put the files of this version beside those that are there; who comes second waits, and changes nothing."""
    from django.core.management import call_command

    root = Path(settings.STATIC_ROOT)
    root.mkdir(parents=True, exist_ok=True)
    folder = os.open(root, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        call_command("collectstatic", verbosity=0, interactive=False, ignore_patterns=list(UNUSED))
    finally:
        os.close(folder)
