"""Refusals, as pages that say what to do next."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render


def refuse(request: HttpRequest, status: int, title: str, advice: str) -> HttpResponse:
    """Return a page with a status, what is wrong, and what to do."""
    return render(
        request, "console/refused.html", {"title": title, "advice": advice}, status=status
    )


def refuse_csrf(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Refuse a form that did not come from one of our pages."""
    del reason
    advice = "Open the page again and send the form from there. Nothing was changed."
    return refuse(request, 403, "This form did not come from this console", advice)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Refuse what Django itself finds wrong, without repeating it."""
    del exception
    return refuse(request, 400, "That request is not valid", "Go back to the queue.")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Say that there is no such page or alert."""
    del exception
    return refuse(request, 404, "Nothing is here", "Go back to the queue.")


def failed(request: HttpRequest) -> HttpResponse:
    """Say that something failed here, and nothing about what."""
    advice = "It was logged. Try again; nothing was changed if you were settling an alert."
    return refuse(request, 500, "Something failed", advice)
