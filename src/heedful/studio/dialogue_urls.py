"""Addresses of the dialogue page."""

from __future__ import annotations

from django.urls import path

from heedful.studio import dialogue

D = "p/<slug:slug>/dialogue/<uuid:assignment>/"

urlpatterns = [
    path(D, dialogue.page, name="dialogue"),
    path(D + "turns/", dialogue.turns, name="dialogue_turns"),
    path(D + "begin/", dialogue.begin, name="dialogue_begin"),
    path(D + "say/", dialogue.say, name="dialogue_say"),
    path(D + "retry/", dialogue.retry, name="dialogue_retry"),
    path(D + "choose/", dialogue.choose, name="dialogue_choose"),
    path(D + "end/", dialogue.end, name="dialogue_end"),
]
