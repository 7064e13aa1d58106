"""For whoever runs the studio: probes, figures, a line a request. Outermost: it needs no session and no host name."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse

from heedful.studio import logs, metrics, readiness

Answer = Callable[[HttpRequest], HttpResponse]
LIVE, READY, METRICS = "/healthz", "/readyz", "/metrics"
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
log = logging.getLogger(logs.REQUESTS)


def probes(answer: Answer) -> Answer:
    """Answer probes whatever host they name: a balancer asks by address, before anybody can log in."""

    def ask(request: HttpRequest) -> HttpResponse:
        if request.path_info not in (LIVE, READY, METRICS):
            return answer(request)
        if request.method not in ("GET", "HEAD"):
            return HttpResponse(status=405, headers={"Allow": "GET, HEAD"})
        response = _probe(request)
        response.headers["Cache-Control"] = "no-store"
        return response

    return ask


def _probe(request: HttpRequest) -> HttpResponse:
    if request.path_info == LIVE:
        return JsonResponse({"status": "ok"})
    if request.path_info == READY:
        why = readiness.why_not()
        return JsonResponse({"status": why or "ok"}, status=503 if why else 200)
    if not metrics.allowed(request):
        return HttpResponse(status=403)
    return HttpResponse(metrics.render(), content_type=metrics.TYPE)


def watched(answer: Answer) -> Answer:
    """Give a request its id, count it, and tell of it in the log: page, status and time, nothing else."""

    def watch(request: Any) -> HttpResponse:
        proxied = getattr(settings, "HEEDFUL_PROXIED", False)
        own = logs.new_id(request.headers.get("X-Request-ID", "") if proxied else "")
        request.heedful_id = own
        token = logs.request_id.set(own)
        began = time.perf_counter()
        metrics.IN_FLIGHT.inc()
        try:
            response = answer(request)
            took = time.perf_counter() - began
            page = _page(request)
            method = request.method if request.method in METHODS else "other"  # a client may send any word
            metrics.REQUESTS.labels(page, method, response.status_code).inc()
            metrics.SECONDS.labels(metrics.part_of(page)).observe(took)
            if page != "static":
                _tell(request, response.status_code, took)
        finally:
            metrics.IN_FLIGHT.dec()
            logs.request_id.reset(token)
        response.headers["X-Request-ID"] = own
        return response

    return watch


def _page(request: HttpRequest) -> str:
    """A page's name in the URLconf: there are as many as there are pages, whatever people ask for."""
    match = request.resolver_match
    if match is not None:
        return match.view_name or "none"
    return "static" if request.path_info.startswith(settings.STATIC_URL) else "none"


def _tell(request: HttpRequest, status: int, seconds: float) -> None:
    facts = {
        "method": request.method if request.method in METHODS else "other",
        "page": logs.page_of(request),
        "status": status,
        "ms": round(1000 * seconds, 1),
    }
    log.info("request", extra={"facts": facts})
