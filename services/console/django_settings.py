"""Django's own settings, made from the console's."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote, urlsplit

import django
from django.conf import settings as django_settings

from fraudstream.errors import InvalidSettings
from fraudstream.privacy import read_secret
from services.console.settings import ConsoleSettings

_HERE: Final = Path(__file__).parent
# A lock on SQLite is held for the length of one short transaction; 20 s outlasts any queue of them.
_SQLITE_BUSY_S: Final = 20
_STATEMENT_TIMEOUT_MS: Final = 5_000
MAX_BODY_BYTES: Final = 65_536


def configure_django(settings: ConsoleSettings) -> None:
    """Configure Django once for this process and load its applications."""
    if not django_settings.configured:
        django_settings.configure(
            **_web(settings), **_security(settings), **_storage(settings), **_applications()
        )
        django.setup()


def _applications() -> dict[str, Any]:
    """Return the applications, middleware and templates."""
    return {
        "INSTALLED_APPS": [
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "django.contrib.messages",
            "django.contrib.staticfiles",
            "services.console.apps.ConsoleConfig",
        ],
        "MIDDLEWARE": [
            "django.middleware.security.SecurityMiddleware",
            "services.console.middleware.limit_bodies",
            "services.console.middleware.secure_responses",
            "whitenoise.middleware.WhiteNoiseMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
            "services.console.middleware.prolong_sessions",
            "django.contrib.messages.middleware.MessageMiddleware",
            "django.middleware.clickjacking.XFrameOptionsMiddleware",
        ],
        "TEMPLATES": [
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "APP_DIRS": True,
                "OPTIONS": {
                    "context_processors": [
                        "django.template.context_processors.request",
                        "django.contrib.auth.context_processors.auth",
                        "django.contrib.messages.context_processors.messages",
                    ]
                },
            }
        ],
    }


def _web(settings: ConsoleSettings) -> dict[str, Any]:
    """Return addresses, static files and clock."""
    return {
        "DEBUG": False,
        "ROOT_URLCONF": "services.console.urls",
        "ALLOWED_HOSTS": [name.strip() for name in settings.allowed_hosts.split(",")],
        "APPEND_SLASH": False,
        "STATIC_URL": "/static/",
        "STATIC_ROOT": None,
        "WHITENOISE_USE_FINDERS": True,
        "WHITENOISE_AUTOREFRESH": False,
        "WHITENOISE_MAX_AGE": 300,
        "LOGIN_URL": "/login",
        "LOGIN_REDIRECT_URL": "/",
        "LOGOUT_REDIRECT_URL": "/login",
        "USE_TZ": True,
        "TIME_ZONE": "UTC",
        "USE_I18N": False,
        "LANGUAGE_CODE": "en",
        "LOGGING_CONFIG": None,
        "DATA_UPLOAD_MAX_MEMORY_SIZE": MAX_BODY_BYTES,
        "DATA_UPLOAD_MAX_NUMBER_FIELDS": 20,
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
    }


def _security(settings: ConsoleSettings) -> dict[str, Any]:
    """Return keys, cookies and headers."""
    host_prefix = "__Host-" if settings.is_https else ""
    return {
        "SECRET_KEY": _secret_key(settings),
        "SESSION_COOKIE_NAME": f"{host_prefix}session",
        "SESSION_COOKIE_AGE": settings.session_idle_s,
        "SESSION_COOKIE_HTTPONLY": True,
        "SESSION_COOKIE_SAMESITE": "Strict",
        "SESSION_COOKIE_SECURE": settings.is_https,
        "CSRF_COOKIE_NAME": f"{host_prefix}csrf",
        "CSRF_COOKIE_HTTPONLY": True,
        "CSRF_COOKIE_SAMESITE": "Strict",
        "CSRF_COOKIE_SECURE": settings.is_https,
        "CSRF_FAILURE_VIEW": "services.console.pages.errors.refuse_csrf",
        "CSRF_TRUSTED_ORIGINS": _trusted_origins(settings),
        "MESSAGE_STORAGE": "django.contrib.messages.storage.session.SessionStorage",
        "X_FRAME_OPTIONS": "DENY",
        "SECURE_CONTENT_TYPE_NOSNIFF": True,
        "SECURE_REFERRER_POLICY": "same-origin",
        "SECURE_CROSS_ORIGIN_OPENER_POLICY": "same-origin",
        "SECURE_HSTS_SECONDS": 31_536_000 if settings.is_https else 0,
        "AUTH_PASSWORD_VALIDATORS": [
            {
                "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
                "OPTIONS": {"min_length": 12},
            },
            {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
            {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
        ],
    }


def _trusted_origins(settings: ConsoleSettings) -> list[str]:
    """Return the https origins of the allowed hosts: behind a proxy, requests arrive as http."""
    if not settings.is_https:
        return []
    return [f"https://{name.strip()}" for name in settings.allowed_hosts.split(",")]


def _secret_key(settings: ConsoleSettings) -> str:
    """Return the signing key from its file, or a new one."""
    if not settings.secret_key_file:
        return secrets.token_urlsafe(48)
    key = read_secret(Path(settings.secret_key_file)).strip()
    if len(key) < 32:
        msg = f"the key in {settings.secret_key_file} has {len(key)} characters; 32 are needed"
        raise InvalidSettings(msg)
    return key


def _storage(settings: ConsoleSettings) -> dict[str, Any]:
    """Return the database."""
    url = urlsplit(settings.database_url.get_secret_value())
    if url.scheme == "sqlite":
        return {"DATABASES": {"default": _sqlite(url.path[1:])}}
    if url.scheme in {"postgresql", "postgres"}:
        password = unquote(url.password or "")
        if settings.database_password_file:
            password = read_secret(Path(settings.database_password_file)).strip()
        return {
            "DATABASES": {
                "default": {
                    "ENGINE": "django.db.backends.postgresql",
                    "NAME": url.path[1:],
                    "USER": unquote(url.username or ""),
                    "PASSWORD": password,
                    "HOST": url.hostname or "",
                    "PORT": str(url.port or ""),
                    "CONN_MAX_AGE": 60,
                    "CONN_HEALTH_CHECKS": True,
                    "OPTIONS": {
                        "connect_timeout": 5,
                        "options": f"-c statement_timeout={_STATEMENT_TIMEOUT_MS}",
                    }
                    | dict(parse_qsl(url.query)),
                }
            }
        }
    msg = f"database_url begins with {url.scheme!r}; sqlite and postgresql are known"
    raise InvalidSettings(msg)


def _sqlite(path: str) -> dict[str, Any]:
    """Return SQLite with a write-ahead log: readers never wait, writers wait for each other."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    return {
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": path,
        "CONN_MAX_AGE": None,
        "OPTIONS": {
            "timeout": _SQLITE_BUSY_S,
            "transaction_mode": "IMMEDIATE",
            "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;",
        },
    }
