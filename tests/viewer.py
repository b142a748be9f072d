"""Serves a built OHIF viewer and a PACS's DICOMweb to a browser, from one origin on this machine.

The viewer's files lie in one folder (what `npm pack @ohif/app` calls `dist`); only what a browser asks of DICOMweb is
passed on. Nothing here knows what is looked at.
"""

from __future__ import annotations

import json
import mimetypes
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any

VERSION = "3.13.2"
"""The version of @ohif/app that these tests were written against; `.ci/run` unpacks this one."""

SOURCE = "@ohif/extension-default.dataSourcesModule.dicomweb"
CONFIG: dict[str, Any] = {
    "routerBasename": None,
    "showStudyList": False,
    "extensions": [],
    "modes": [],
    "customizationService": {},
    "maxNumberOfWebWorkers": 1,
    "showWarningMessageForCrossOrigin": False,
    "showCPUFallbackMessage": False,
    "investigationalUseDialog": {"option": "never"},
    "defaultDataSourceName": "pacs",
    "dataSources": [
        {
            "namespace": SOURCE,
            "sourceName": "pacs",
            "configuration": {
                "friendlyName": "PACS",
                "name": "pacs",
                "qidoRoot": "/dicom-web",
                "wadoRoot": "/dicom-web",
                "qidoSupportsIncludeField": False,
                "imageRendering": "wadors",
                "thumbnailRendering": "wadors",
                "enableStudyLazyLoad": True,
                "supportsFuzzyMatching": False,
                "supportsWildcard": True,
                "bulkDataURI": {"enabled": True},
            },
        }
    ],
}
SECONDS = 30.0


class Viewer:
    """OHIF of one folder in front of the DICOMweb server at `pacs`, while the `with` lasts."""

    def __init__(self, folder: Path, pacs: str) -> None:
        handler = type("Handler", (_Handler,), {"folder": folder, "pacs": pacs})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def study(self, study_instance_uid: str) -> str:
        """The address of a study in the viewer."""
        return f"{self.address}/viewer?StudyInstanceUIDs={study_instance_uid}"

    def __enter__(self) -> Viewer:
        self._thread.start()
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    pacs: str

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/dicom-web/"):
            self._answer(*self._passed_on())
        elif path == "/app-config.js":
            self._answer(200, "text/javascript", b"window.config = " + json.dumps(CONFIG).encode())
        else:
            self._answer(200, *self._file(path))

    def _file(self, path: str) -> tuple[str, bytes]:
        """A file of the viewer; every other address is one of its pages, which its index.html draws."""
        file = (self.folder / path.lstrip("/")).resolve()
        if not (file.is_file() and file.is_relative_to(self.folder.resolve())):
            file = self.folder / "index.html"
        return mimetypes.guess_type(file.name)[0] or "application/octet-stream", file.read_bytes()

    def _passed_on(self) -> tuple[int, str, bytes]:
        # with the browser's Host, so that the addresses in the answer lead here again
        kept = {name: self.headers[name] for name in ("Accept", "Host") if name in self.headers}
        asked = urllib.request.Request(self.pacs + self.path, headers=kept)
        try:
            with urllib.request.urlopen(asked, timeout=SECONDS) as answer:
                return answer.status, answer.headers["Content-Type"], answer.read()
        except urllib.error.HTTPError as error:
            return error.code, "text/plain", error.read()

    def _answer(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        # a page that is isolated from all others may use shared memory, which its decoders want
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.end_headers()
        self.wfile.write(body)
