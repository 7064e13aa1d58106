"""Addresses of the raters' pages."""

from __future__ import annotations

from django.urls import path

from heedful.studio import rating

P = "p/<slug:slug>/rate/"
A = P + "<uuid:assignment>/"

urlpatterns = [
    path(P, rating.rate, name="rate"),
    path(P + "next/", rating.next_item, name="rate_next"),
    path(P + "test/<uuid:test>/", rating.start_test, name="rate_test"),
    path(A + "show/", rating.show, name="rate_show"),
    path(A + "beat/", rating.beat, name="rate_beat"),
    path(A + "draft/", rating.draft, name="rate_draft"),
    path(A + "submit/", rating.submit, name="rate_submit"),
    path(A + "skip/", rating.skip, name="rate_skip"),
    path(A + "undo/", rating.undo, name="rate_undo"),
]
