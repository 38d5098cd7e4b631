"""Django's own settings, made from the console's."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Final

import django
from django.conf import settings as django_settings

from fraudstream.errors import InvalidSettings
from fraudstream.keys.secret_files import Purpose, read_secret
from services.console.database import databases
from services.console.settings import ConsoleSettings

MAX_BODY_BYTES: Final = 65_536


def configure_django(settings: ConsoleSettings) -> None:
    """Configure Django once for this process and load its applications."""
    if not django_settings.configured:
        django_settings.configure(
            **_web(settings),
            **_security(settings),
            **_applications(),
            DATABASES=databases(settings),
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
            "django_otp",
            "django_otp.plugins.otp_totp",
            "services.console.apps.ConsoleConfig",
        ],
        "MIDDLEWARE": [
            "django.middleware.security.SecurityMiddleware",
            "services.console.web.middleware.limit_bodies",
            "services.console.web.middleware.secure_responses",
            "services.console.plain_text.take_plain_text",
            "whitenoise.middleware.WhiteNoiseMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.common.CommonMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
            "django_otp.middleware.OTPMiddleware",
            "django.contrib.auth.middleware.LoginRequiredMiddleware",
            "services.console.web.middleware.complete_sign_in",
            "services.console.web.middleware.prolong_sessions",
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
    key, *former_keys = _secret_keys(settings)
    return {
        "SECRET_KEY": key,
        "SECRET_KEY_FALLBACKS": former_keys,
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
            {"NAME": "services.console.sign_in.password_rules.LetterAndDigitValidator"},
            {"NAME": "services.console.sign_in.password_rules.FormerPasswordValidator"},
        ],
        "OTP_TOTP_ISSUER": "fraudstream",
        # Wrong codes are counted with all other guesses.
        "OTP_TOTP_THROTTLE_FACTOR": 0,
    }


def _trusted_origins(settings: ConsoleSettings) -> list[str]:
    """Return the https origins of the allowed hosts: behind a proxy, requests arrive as http."""
    if not settings.is_https:
        return []
    return [f"https://{name.strip()}" for name in settings.allowed_hosts.split(",")]


def _secret_keys(settings: ConsoleSettings) -> list[str]:
    """Return the signing keys of the file, a line each, or a new one; the first one signs."""
    if not settings.secret_key_file:
        return [secrets.token_urlsafe(48)]
    keys = read_secret(Path(settings.secret_key_file), Purpose.CONSOLE_KEY).split()
    shortest = min(map(len, keys), default=0)
    if shortest < 32:
        msg = f"a key in {settings.secret_key_file} has {shortest} characters; 32 are needed"
        raise InvalidSettings(msg)
    return keys
