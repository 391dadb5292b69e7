"""A server on loopback that answers as servers do: well, slowly, in part, untruthfully, with pages instead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

QUOTA_PAGE = (b"<!DOCTYPE html><html><head><title>Google Drive - Quota exceeded</title></head><body><p>Sorry, you "
              b"can't view or download this file at this time. Too many users have viewed or downloaded this file "
              b"recently.</p></body></html>")
SCAN_PAGE = (b'<!DOCTYPE html><html><head><title>Google Drive - Virus scan warning</title></head><body>Google Drive '
             b'can\'t scan this file for viruses.<form id="download-form" action="/confirmed" method="get">'
             b'<input type="submit" value="Download anyway"/><input type="hidden" name="id" value="abc">'
             b'<input type="hidden" name="confirm" value="t"><input type="hidden" name="uuid" value="1&amp;2"></form>')


class Loopback:
    """`server.answers[path] = answer` decides; `server.asked` lists (path with query, headers) of each request."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[BaseHTTPRequestHandler], None]] = {}
        self.asked: list[tuple[str, dict[str, str]]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, dict(self.headers)))
                answer = outer.answers.get(self.path.partition("?")[0], status(404))
                try:
                    answer(self)
                except (BrokenPipeError, ConnectionResetError):
                    pass

            def log_message(self, *args) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def ranges(self) -> list[str]:
        """The Range header of each request, "" where it asked for everything."""
        return [headers.get("Range", "") for _, headers in self.asked]


def good(content: bytes, *, ranges: bool = True, edition: str = '"1"', stop: Callable[[], int | None] = lambda: None,
         pause: float = 0.0, announce: int | None = None):
    """The file. ranges: gives parts of it. stop(): after how many bytes to hang up. pause: seconds between two pieces.

    announce: the Content-Length to claim instead of the true one; -1 claims none.
    """
    def answer(handler: BaseHTTPRequestHandler) -> None:
        start, asked = 0, handler.headers.get("Range", "")
        condition = handler.headers.get("If-Range", edition)
        if ranges and asked and condition == edition:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                handler.send_response(416)
                handler.send_header("Content-Range", f"bytes */{len(content)}")
                handler.send_header("Content-Length", "0")
                handler.end_headers()
                return
        body = content[start:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if edition:
            handler.send_header("ETag", edition)
        length = len(body) if announce is None else announce
        if length >= 0:
            handler.send_header("Content-Length", str(length))
        handler.end_headers()
        limit = stop()
        body = body if limit is None else body[:limit]
        step = max(1, len(body) // 20) if pause else max(1, len(body))
        for k in range(0, len(body), step):
            handler.wfile.write(body[k:k + step])
            handler.wfile.flush()
            time.sleep(pause)
        handler.close_connection = True

    return answer


def breaking(content: bytes, *limits: int, **how):
    """The file, hung up on after so many bytes by the first requests; those after them get the rest."""
    left = list(limits)
    return good(content, stop=lambda: left.pop(0) if left else None, **how)


def status(code: int, body: bytes = b"", kind: str = "text/html"):
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(code)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer
