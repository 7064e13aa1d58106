"""Addresses of all pages."""

from __future__ import annotations

from typing import Any

from django.urls import include, path

from heedful.studio import accounts

urlpatterns: list[Any] = [
    path("", accounts.home, name="home"),
    path("login/", accounts.login, name="login"),
    path("logout/", accounts.logout, name="logout"),
    path("language/", accounts.language, name="language"),
    path("password/", accounts.password, name="password"),
    path("first/<str:token>/", accounts.first, name="first"),
    path("invitation/<str:token>/", accounts.invitation, name="invitation"),
    path("health/", accounts.health, name="health"),
    path("p/<slug:slug>/consent/", accounts.consent, name="consent"),
    path("", include("heedful.studio.rating_urls")),
    path("", include("heedful.studio.dialogue_urls")),
    path("", include("heedful.studio.lead.urls")),
    path("api/", include("heedful.studio.api.urls")),
]
handler403 = "heedful.studio.accounts.forbidden"
handler404 = "heedful.studio.accounts.missing"
handler500 = "heedful.studio.accounts.broken"
