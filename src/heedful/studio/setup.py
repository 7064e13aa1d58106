"""The studio's own settings of Django."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from heedful.errors import HeedfulError
from heedful.feedback import setup as store
from heedful.studio import logs
from heedful.studio.config import StudioConfig

HERE = Path(__file__).resolve().parent
SECRET, FIELD_KEY = "secret-key", "field-key"
LANGUAGES = (("en", "English"), ("vi", "Tiếng Việt"), ("zh-hans", "简体中文"))
APPS = (
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django_htmx",
    "axes",
    "ninja",
    "heedful.studio",
)
MIDDLEWARE = (
    "heedful.studio.operations.probes",
    "heedful.studio.operations.watched",
    "django.middleware.security.SecurityMiddleware",
    "heedful.studio.static.Static",
    "csp.middleware.CSPMiddleware",
    "heedful.studio.middleware.headers",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "heedful.studio.middleware.language",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "axes.middleware.AxesMiddleware",
)
POLICY = {
    "default-src": ["'none'"],
    "script-src": ["'self'"],
    "style-src": ["'self'"],
    "img-src": ["'self'"],
    "font-src": ["'self'"],
    "connect-src": ["'self'"],
    "form-action": ["'self'"],
    "base-uri": ["'none'"],
    "frame-ancestors": ["'none'"],
    "object-src": ["'none'"],
}


def configure(
    url: str | None = None,
    folder: Path | None = None,
    *,
    public_url: str = "",
    lan: bool = False,
    runs: Path | None = None,
    static: Path | None = None,
    log_format: str = "text",
    **over: Any,
) -> None:
    """Configure Django for the web face on a database.

    Args:
        url: of the database, as `heedful.feedback.setup.setup` takes it.
        folder: of the studio: its secret key is read there, or made on the first run.
        public_url: https address of a proxy in front.
        lan: plain HTTP on a local network.
        runs: below which training runs lie; by default the folder.
        static: where collected static files lie; by default they are served as they are in the packages.
        log_format: text or json.
        over: settings that win over the studio's own.
    """
    if "SECRET_KEY" not in over:
        over["SECRET_KEY"] = secret_key(folder or Path())
    if runs is not None:
        over["HEEDFUL_RUNS"] = str(runs.resolve())
    found = settings(folder, public_url, lan) | _static(static) | {"LOGGING": logs.settings(log_format)}
    store.setup(url, found | over)


def configure_served(config: StudioConfig, hosts: Sequence[str] = (), static: Path | None = None) -> None:
    """Configure Django as the settings of `heedful studio` say.

    Args:
        config: where, and for whom.
        hosts: names that the studio answers to, where no proxy in front says one.
        static: where collected static files lie; by default they are served as they are in the packages.
    """
    over = {"ALLOWED_HOSTS": list(hosts)} if hosts and not config.public_url else {}
    configure(
        config.address,
        config.folder,
        public_url=config.public_url,
        lan=config.lan,
        runs=config.runs,
        static=static,
        log_format=config.log_format,
        **over,
    )


def secret_key(folder: Path) -> str:
    """The key that signs sessions, made on the first run.

    Raises:
        HeedfulError: others may read the file.
    """
    return _secret(folder / SECRET, "the key that signs sessions")


def field_key(folder: Path) -> bytes:
    """The key that end users' ids are hashed with, made when it is first needed. Lost, nobody's withdrawal finds them.

    Raises:
        HeedfulError: others may read the file.
    """
    return _secret(folder / FIELD_KEY, "the key that end users' ids are hashed with").encode()


def _secret(path: Path, what: str) -> str:
    """A secret that stands in a file, made on first need, whole or not at all.

    Raises:
        HeedfulError: others may read the file.
    """
    if not path.exists():
        handle, name = tempfile.mkstemp(dir=path.parent)  # nobody but the owner may read it, from the start
        try:
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(64))
                file.flush()
                os.fsync(file.fileno())
            with contextlib.suppress(FileExistsError):  # another process was first: its key holds
                os.link(name, path)
        finally:
            os.unlink(name)
    if path.stat().st_mode & 0o077:
        raise HeedfulError(
            f"others can read {what}.", where=str(path), mend=f"Let its owner alone read it: chmod 600 {path}."
        )
    return path.read_text(encoding="ascii").strip()


def settings(folder: Path | None, public_url: str, lan: bool) -> dict[str, Any]:
    """All but the database and the secret key."""
    found: dict[str, Any] = {
        "DEBUG": False,
        "INSTALLED_APPS": APPS,
        "MIDDLEWARE": list(MIDDLEWARE),
        "ROOT_URLCONF": "heedful.studio.urls",
        "ALLOWED_HOSTS": ["127.0.0.1", "localhost", "[::1]"],
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.template.context_processors.i18n",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                        "heedful.studio.context.navigation",
                    ]
                },
            }
        ],
        "AUTHENTICATION_BACKENDS": [
            "axes.backends.AxesStandaloneBackend",
            "django.contrib.auth.backends.ModelBackend",
        ],
        "AUTH_PASSWORD_VALIDATORS": [
            {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
            {
                "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
                "OPTIONS": {"min_length": 10},
            },
            {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
        ],
        "LOGIN_URL": "login",
        "LOGIN_REDIRECT_URL": "home",
        "LOGOUT_REDIRECT_URL": "login",
        "CSRF_FAILURE_VIEW": "heedful.studio.accounts.csrf_failure",
        "MESSAGE_STORAGE": "django.contrib.messages.storage.session.SessionStorage",
        "SESSION_COOKIE_NAME": "heedful",
        "SESSION_COOKIE_SAMESITE": "Lax",
        "CSRF_COOKIE_NAME": "heedful-csrf",
        "CSRF_COOKIE_HTTPONLY": False,  # the rating page sends it in a header
        "X_FRAME_OPTIONS": "DENY",
        "SECURE_CONTENT_TYPE_NOSNIFF": True,
        "SECURE_REFERRER_POLICY": "same-origin",
        "SECURE_CROSS_ORIGIN_OPENER_POLICY": "same-origin",
        "CONTENT_SECURITY_POLICY": {"DIRECTIVES": POLICY},
        "AXES_FAILURE_LIMIT": 8,
        "AXES_COOLOFF_TIME": timedelta(minutes=15),
        "AXES_LOCKOUT_PARAMETERS": [["username", "ip_address"]],
        "AXES_RESET_ON_SUCCESS": True,
        "AXES_CLIENT_IP_CALLABLE": "heedful.studio.security.client_of",  # not by what else is installed
        "AXES_LOCKOUT_CALLABLE": "heedful.studio.accounts.locked_out",
        "AXES_VERBOSE": False,
        "AXES_DISABLE_ACCESS_LOG": True,
        "DATA_UPLOAD_MAX_MEMORY_SIZE": 8 * 2**20,
        "STATIC_URL": "/static/",
        "WHITENOISE_MAX_AGE": 300,
        "WHITENOISE_ALLOW_ALL_ORIGINS": False,
        "LANGUAGE_CODE": "en",
        "LANGUAGES": LANGUAGES,
        "LOCALE_PATHS": [HERE / "locale"],
        "USE_I18N": True,
    }
    if folder is not None:
        found["HEEDFUL_FOLDER"] = str(folder.resolve())
    if public_url:
        host = urlsplit(public_url).hostname
        found |= {
            "HEEDFUL_PROXIED": True,
            "ALLOWED_HOSTS": [host, "127.0.0.1", "localhost"],
            "CSRF_TRUSTED_ORIGINS": [public_url.rstrip("/")],
            "SECURE_PROXY_SSL_HEADER": ("HTTP_X_FORWARDED_PROTO", "https"),
            "SESSION_COOKIE_SECURE": True,
            "CSRF_COOKIE_SECURE": True,
            "SECURE_HSTS_SECONDS": 31_536_000,
        }
    if lan:  # a browser drops the opener policy of a page that is not encrypted, and says so at every load
        found["SECURE_CROSS_ORIGIN_OPENER_POLICY"] = None
    return found


def _static(folder: Path | None) -> dict[str, Any]:
    """Settings of static files: collected in a folder under hashed names, or as they are."""
    if folder is None:
        return {"WHITENOISE_USE_FINDERS": True}
    stored = {
        "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
        "staticfiles": {"BACKEND": "heedful.studio.static.Hashed"},
    }
    return {"STATIC_ROOT": str(folder.resolve()), "STORAGES": stored, "WHITENOISE_USE_FINDERS": False}
