"""Every address of the console. All but the login need one."""

from __future__ import annotations

from django.urls import path, re_path

from services.console.pages import (
    account_page,
    alert_page,
    login_page,
    queue_page,
    search_page,
    security_txt,
)

_ALERT = r"^alerts/(?P<alert_id>[0-9a-f]{32})"

urlpatterns = [
    path("", queue_page.show_queue, name="queue"),
    path("queue/newer", queue_page.count_newer_alerts, name="newer"),
    re_path(_ALERT + "$", alert_page.show_alert, name="alert"),
    re_path(_ALERT + "/settle$", alert_page.settle, name="settle"),
    path(".well-known/security.txt", security_txt.show_security_txt, name="security_txt"),
    path("search", search_page.search, name="search"),
    path("login", login_page.ThrottledLoginView.as_view(), name="login"),
    path("logout", login_page.NotedLogoutView.as_view(), name="logout"),
    path("password", account_page.change_password, name="password"),
    path("second-factor", account_page.second_factor, name="second_factor"),
]

handler400 = "services.console.pages.errors.bad_request"
handler404 = "services.console.pages.errors.not_found"
handler500 = "services.console.pages.errors.failed"
