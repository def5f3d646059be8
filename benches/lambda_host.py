"""What stands around a Lambda's process here: its runtime API, its bucket's endpoint, and the meters of the process.

`Lambda` starts a bootstrap as Lambda does and hands events to it. Every `Moment` reads the process's own CPU clock, so
that a busy machine changes little; resident memory is the kernel's count.
"""

import dataclasses
import http.client
import http.server
import json
import os
import queue
import re
import subprocess
import tempfile
import threading
import time
import urllib.parse

PATIENCE_S = 60
INVOCATION = "/2018-06-01/runtime/invocation/"
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade"}


def cpu_seconds(pid):
    """CPU time of a process so far, user and system, ended threads included."""
    # The clock that clock_getcpuclockid(3) names: /proc/<pid>/stat has the same, in hundredths of a second.
    return time.clock_gettime((~pid << 3) | 2)


def resident_mib(pid):
    """Resident memory of a process, now and at most, and how much of it is no file's."""
    with open(f"/proc/{pid}/status") as status:
        kib = dict(re.findall(r"(VmHWM|VmRSS|RssAnon):\s*(\d+) kB", status.read()))
    return {"now": int(kib["VmRSS"]) / 1024, "peak": int(kib["VmHWM"]) / 1024, "anonymous": int(kib["RssAnon"]) / 1024}


@dataclasses.dataclass
class Moment:
    """What a process has used up to a moment."""

    wall_s: float
    cpu_s: float
    resident_mib: dict

    @classmethod
    def of(cls, pid):
        return cls(time.monotonic(), cpu_seconds(pid), resident_mib(pid))


class Server:
    """An HTTP server on a free port of 127.0.0.1, in threads of its own."""

    def __init__(self, answer):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def handle_any(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                answered = answer(self.command, self.path, self.headers, body)
                if answered is None:
                    self.close_connection = True
                    return
                status, headers, content = answered
                self.send_response_only(status)
                for name, value in headers:
                    self.send_header(name, value)
                if not any(name.lower() == "content-length" for name, _ in headers):
                    self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self.address = "127.0.0.1:{}".format(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()
        self._server.server_close()


class Lambda:
    """A process of a bootstrap, with the runtime API that it asks for events, and an S3 endpoint passed through.

    `requests` are what it asked of S3, each with the moments before and after.
    """

    def __init__(self, bootstrap, environment, s3_endpoint):
        self.requests = []
        self._pid = None
        self._started = threading.Event()
        self._s3 = urllib.parse.urlsplit(s3_endpoint).netloc
        self._events, self._asked, self._answers = queue.Queue(), queue.Queue(), queue.Queue()
        self._servers = [Server(self._runtime_api), Server(self._pass_through)]
        runtime_api, endpoint = (server.address for server in self._servers)
        environment = environment | {
            "AWS_LAMBDA_RUNTIME_API": runtime_api,
            "AWS_ENDPOINT_URL": f"http://{endpoint}",
            "AWS_LAMBDA_FUNCTION_NAME": "measured",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
            "AWS_LAMBDA_LOG_GROUP_NAME": "measured",
            "AWS_LAMBDA_LOG_STREAM_NAME": "measured",
        }
        self._log = tempfile.TemporaryFile(mode="w+")
        self._process = subprocess.Popen([bootstrap], env=environment, stdout=self._log, stderr=self._log)
        self._pid = self._process.pid
        self._started.set()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._events.put(None)
        self._process.kill()
        self._process.wait()
        for server in self._servers:
            server.close()
        self._log.close()

    def ready(self):
        """The moment of its next request for an event."""
        return self._next(self._asked)

    def invoke(self, event):
        """Its answer to an event, and the moment when it asked for another one."""
        self._events.put(json.dumps(event).encode())
        answer = json.loads(self._next(self._answers))
        return answer, self._next(self._asked)

    def _next(self, of):
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return of.get(timeout=0.5)
            except queue.Empty:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self._log.seek(0)
                    raise RuntimeError(f"the function does not go on:\n{self._log.read()[-4000:]}") from None

    def _moment(self):
        self._started.wait()
        return Moment.of(self._pid)

    def _runtime_api(self, method, path, _headers, body):
        if (method, path) == ("GET", f"{INVOCATION}next"):
            self._asked.put(self._moment())
            event = self._events.get()
            if event is None:
                return None
            return 200, self._invocation_headers(), event
        if method == "POST" and path.startswith(INVOCATION) and path.endswith("/response"):
            self._answers.put(body)
        else:
            self._answers.put(json.dumps({"failed": path, "error": body.decode(errors="replace")}))
        return 202, [], b""

    @staticmethod
    def _invocation_headers():
        return [
            ("content-type", "application/json"),
            ("lambda-runtime-aws-request-id", os.urandom(16).hex()),
            ("lambda-runtime-deadline-ms", str(int((time.time() + PATIENCE_S) * 1000))),
            ("lambda-runtime-invoked-function-arn", "arn:aws:lambda:us-east-1:111122223333:function:measured"),
            ("lambda-runtime-trace-id", "Root=1-6968b8d8-5d1e0a3b7c9f4e2d1a0b3c4d;Parent=53995c3f42cd8ad8;Sampled=0"),
        ]

    def _pass_through(self, method, path, headers, body):
        before = self._moment()
        connection = http.client.HTTPConnection(self._s3, timeout=PATIENCE_S)
        try:
            # As it is, with the host that was signed.
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in HOP_BY_HOP]
        self.requests.append({"method": method, "path": path, "before": before, "after": self._moment()})
        return response.status, kept, content
