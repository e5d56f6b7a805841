"""A store behind a server, ours or a Prometheus."""

from __future__ import annotations

import datetime as dt
import http.client
import json
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request
from typing import TYPE_CHECKING, Any, Mapping

from . import _heapster, _times
from ._database import Database
from .errors import ClosedError, LimitError, QueryError, QueryTimeoutError, ServerError

if TYPE_CHECKING:
    from ._database import Answer

#: How long a server may take to answer what is not a query with a time-out of its own.
_PATIENCE = 60.0
#: How much longer than the query the whole request may take.
_GRACE = 5.0
#: What the historical API calls aggregations in its answers, where it is something else.
_KEYS = {"max": "maximum", "min": "minimum"}
#: How far ahead of the clock samples may be, in milliseconds.
_AHEAD = 600_000
#: The longest range that PromQL has, 64 bits of nanoseconds, in milliseconds and roughly.
_RANGE_MAX = 290 * 365 * 86_400_000
#: How our query engine and Prometheus' begin to say that a query needs too much.
_LIMIT = re.compile(
    "query needs more than |query processing would load too many |exceeded maximum resolution of "
)
_PORTS = {"http": 80, "https": 443}


class _SameOrigin(urllib.request.HTTPRedirectHandler):
    """Follows a server to other paths, but to no other server: that one would get the token."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if _origin(newurl) != _origin(req.full_url):
            fp.close()
            raise ServerError(
                f"{req.full_url} sends us on to {newurl}; connect to that server if you trust it", code
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urllib.parse.urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        # A port that none is leads to no server at all, so not to this one.
        port = -1
    return parts.scheme, parts.hostname, _PORTS.get(parts.scheme) if port is None else port


class Remote(Database):
    """A store behind a server; made by :func:`heapster.connect`.

    Over HTTP values are floats: an integer beyond 2^53 comes as the nearest float. :meth:`select` has
    no staleness markers, and :meth:`historical` no warnings. An error says in words, and not as
    ``position``, where an expression is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise QueryError(
                f"{url!r} is no address of a server; write one such as http://127.0.0.1:8082"
            )
        self.url = url.rstrip("/")
        self._headers = {"Accept": "application/json", **(headers or {})}
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._opener = urllib.request.build_opener(
            _SameOrigin, urllib.request.HTTPSHandler(context=context)
        )
        self._is_open = True

    def close(self) -> None:
        """Close it; once more does nothing."""
        self._is_open = False

    def __repr__(self) -> str:
        return f"<heapster.Remote {self.url!r}{'' if self._is_open else ' closed'}>"

    # What Database asks.

    def _instant(self, expression: str, at: int, timeout: dt.timedelta | None) -> Answer:
        form = {"query": expression, "time": _seconds(at)}
        return self._ask("query", form, at, timeout)

    def _range(
        self, expression: str, start: int, end: int, step: dt.timedelta, timeout: dt.timedelta | None
    ) -> Answer:
        form = {
            "query": expression,
            "start": _seconds(start),
            "end": _seconds(end),
            "step": repr(step.total_seconds()),
        }
        return self._ask("query_range", form, end, timeout)

    def _select(self, selector: str, start: int, end: int) -> tuple[_heapster.Frame, list[str]]:
        end = min(end, _times.now() + _AHEAD)
        first = max(start, end - _RANGE_MAX)
        # A range leaves its start out.
        length = max(1, end - first + 1)
        form = {"query": f"{_in_promql(selector)}[{length}ms]", "time": _seconds(end)}
        _, frame, _, warnings = self._ask("query", form, end, None)
        if _times.OLDEST < start < first:
            since = _heapster.print_time(first)
            warnings = [*warnings, f"samples before {since} were not asked for: a range has 290 years"]
        return frame, warnings

    def _historical(
        self,
        entity: str,
        labels: list[tuple[str, str]],
        metric: str,
        aggregations: list[tuple[str, str]],
        start: int,
        end: int,
        bucket: dt.timedelta | None,
    ) -> tuple[_heapster.Table, list[str]]:
        names = ",".join(name for _, name in aggregations)
        path = f"/api/v1/historical{_entity_path(entity)}/metrics-aggregated/{names}/{metric}"
        # The first moment of all stands for none given.
        start = max(start, _times.OLDEST + 1)
        form = {"start": _heapster.print_time(start), "end": _heapster.print_time(end)}
        if bucket is not None:
            form["bucket"] = f"{bucket // dt.timedelta(milliseconds=1)}ms"
        if labels:
            form["labels"] = ",".join(f"{name}:{value}" for name, value in labels)
        target = urllib.parse.quote(path, safe="/,-_.~")
        body = self._request(f"{target}?{urllib.parse.urlencode(form)}", None, _PATIENCE)
        buckets = _json(self.url, body).get("buckets") or []
        return _table_of_buckets(buckets, aggregations), []

    def _entities(self, start: int, end: int) -> _heapster.Table:
        found = self._list("series", {"match[]": '{type!=""}', **_bounds(start, end)})
        return _heapster.entities_of([list(labels.items()) for labels in found])

    def _metrics(self, start: int, end: int) -> _heapster.Table:
        return _heapster.describe(self._list("label/__name__/values", _bounds(start, end)))

    def _label_texts(self, label: str | None, start: int, end: int) -> list[str]:
        path = "labels" if label is None else f"label/{urllib.parse.quote(label, safe='')}/values"
        return self._list(path, _bounds(start, end))

    # The API of Prometheus.

    def _ask(
        self, path: str, form: dict[str, str], at: int, timeout: dt.timedelta | None
    ) -> Answer:
        patience = None
        if timeout is not None:
            form["timeout"] = repr(timeout.total_seconds())
            patience = timeout.total_seconds() + _GRACE
        body = self._request(f"/api/v1/{path}", urllib.parse.urlencode(form).encode(), patience)
        answer = _heapster.read_answer(body, at)
        if answer is None:
            raise ServerError(f"{self.url} does not answer as Prometheus does; is it the right address?")
        return answer

    def _list(self, path: str, form: dict[str, str]) -> list[Any]:
        body = self._request(f"/api/v1/{path}?{urllib.parse.urlencode(form)}", None, _PATIENCE)
        data = _json(self.url, body).get("data")
        if not isinstance(data, list):
            raise ServerError(f"{self.url} does not answer as Prometheus does; is it the right address?")
        return data

    def _request(self, target: str, form: bytes | None, patience: float | None) -> bytes:
        if not self._is_open:
            raise ClosedError(f"the connection to {self.url} is closed")
        request = urllib.request.Request(self.url + target, data=form, headers=self._headers)
        try:
            with self._opener.open(request, timeout=patience) as answer:
                body: bytes = answer.read()
                return body
        except ServerError:
            raise
        except urllib.error.HTTPError as error:
            with error:
                raise _said(self.url, error.code, error.read()) from None
        except TimeoutError as error:
            within = "in time" if patience is None else f"within {patience:g} s"
            raise QueryTimeoutError(f"{self.url} did not answer {within}") from error
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, TimeoutError):
                raise QueryTimeoutError(f"{self.url} did not answer in time") from error
            raise ServerError(
                f"could not ask {self.url}: {reason}; check the address and whether the server runs"
            ) from error


def _said(url: str, status: int, body: bytes) -> Exception:
    """The exception of an answer that is none."""
    try:
        said = json.loads(body)
        kind, text = said["errorType"], said["error"]
    except (ValueError, KeyError, TypeError):
        kind, text = "", body.decode(errors="replace").strip()[:500]
    if kind == "timeout":
        return QueryTimeoutError(text)
    # What the server could not make sense of, it says; whom it does not let in is no matter of the query.
    if status in (400, 422) and text:
        return LimitError(text) if _LIMIT.match(text) else QueryError(text)
    return ServerError(f"{url} answers {status}: {text or 'nothing'}", status)


def _json(url: str, body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ServerError(f"{url} answers something else than a heapster; is it the right address?")
    return answer


def _seconds(millis: int) -> str:
    """Seconds with exactly as many digits as there are."""
    sign, millis = ("-", -millis) if millis < 0 else ("", millis)
    return f"{sign}{millis // 1000}.{millis % 1000:03}"


def _bounds(start: int, end: int) -> dict[str, str]:
    return {"start": _seconds(start), "end": _seconds(end)}


def _in_promql(selector: str) -> str:
    """A selector whose name may have a slash, as PromQL writes it."""
    name, brace, rest = selector.strip().partition("{")
    name = name.strip()
    if not name or name.replace("_", "a").replace(":", "a").isalnum():
        return selector
    conditions = rest.rstrip().removesuffix("}").strip() if brace else ""
    return f'{{"{name}"{", " if conditions else ""}{conditions}}}'


def _entity_path(entity: str) -> str:
    """The path of an entity in Heapster's API.

    >>> _entity_path("namespace:shop/pod:web-1/container:nginx")
    '/namespaces/shop/pods/web-1/containers/nginx'
    """
    if entity == "cluster":
        return ""
    kind, _, rest = entity.partition(":")
    if kind == "node" and rest:
        node, found, container = rest.partition("/container:")
        return f"/nodes/{node}" + (f"/freecontainers/{container}" if found else "")
    if kind == "namespace" and rest:
        namespace, found, rest = rest.partition("/pod:")
        if not found:
            return f"/namespaces/{namespace}"
        pod, found, container = rest.partition("/container:")
        return f"/namespaces/{namespace}/pods/{pod}" + (f"/containers/{container}" if found else "")
    raise QueryError(f"{entity!r} is no entity; write cluster, node:… or namespace:…")


def _table_of_buckets(
    buckets: list[dict[str, Any]], aggregations: list[tuple[str, str]]
) -> _heapster.Table:
    def value(bucket: dict[str, Any], name: str) -> float | int | None:
        if name == "count":
            return int(bucket["count"])
        percent, _, is_percentile = name.partition("-")
        if is_percentile:
            found = bucket.get("percentiles", {}).get(percent)
        else:
            found = bucket.get(_KEYS.get(name, name))
        # An integer or a float, each under a name of its own.
        return None if found is None else next(iter(found.values()))

    times = [_times.millis(bucket["timestamp"]) for bucket in buckets]
    columns = [(column, [value(bucket, name) for bucket in buckets]) for column, name in aggregations]
    return _heapster.buckets_of(times, columns)


def connect(
    url: str,
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    context: ssl.SSLContext | None = None,
) -> Remote:
    """Ask a server over HTTP: a heapster, or, for PromQL, any that speaks Prometheus' API.

    Parameters
    ----------
    url : str
        Its address, such as ``http://127.0.0.1:8082``, with a path if it is behind one.
    token : str, optional
        A bearer token.
    headers : mapping, optional
        Headers of all requests.
    context : ssl.SSLContext, optional
        For an authority of one's own, or a client's certificate.

    Examples
    --------
    >>> with heapster.connect(server.url) as remote:
    ...     remote.query("max(memory_usage)", at="2026-11-01T12:00:00Z").item()
    2147483648.0
    """
    return Remote(url, token=token, headers=headers, context=context)
