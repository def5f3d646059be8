"""The local stack as another program sees it: `glioseg serve` in a process, and a client of its S3 endpoint.

The client signs with AWS Signature Version 4 by itself, so that nothing but Python's standard library is needed.
"""

import datetime
import hashlib
import hmac
import http.client
import json
import queue
import re
import signal
import subprocess
import sys
import threading
import urllib.parse
import xml.etree.ElementTree

# Those that the stack tells whoever starts it.
REGION, ACCESS_KEY, SECRET_KEY = "us-east-1", "glioseg", "glioseg-local"
STALLED_S = 120


class Stack:
    """`glioseg serve` in a folder, on free ports; what it says is in `lines`."""

    def __init__(self, glioseg, folder):
        command = [glioseg, "serve", "--data-dir", folder, "--s3-port", "0", "--api-port", "0"]
        self.folder, self.lines, self._said = folder, [], queue.Queue()
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        greeting = ""
        while "Ctrl-C stops" not in greeting:
            greeting += self.next_line()
        self.s3 = re.search(r"AWS_ENDPOINT_URL=(\S+)", greeting).group(1)
        self.model = re.search(r"serves model (\S+)", greeting).group(1)

    def _read(self):
        for line in self._process.stdout:
            self.lines.append(line)
            self._said.put(line)
        self._said.put(None)

    def next_line(self):
        try:
            line = self._said.get(timeout=STALLED_S)
        except queue.Empty:
            line = None
        if line is None:
            sys.exit(f"glioseg serve does not go on:\n{''.join(self.lines[-20:])}")
        return line

    def dead_letters(self):
        """How many messages were given up, by the queues' files."""
        files = (self.folder / "queues").glob("*.jsonl")
        return sum("dead" in json.loads(line) for file in files for line in file.read_text().splitlines())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(timeout=STALLED_S)
        self._reader.join()


def presigned(endpoint, method, bucket, key="", query=None):
    """A link that the embedded S3 takes for an hour, signed by AWS Signature Version 4; path and query only."""
    host = urllib.parse.urlsplit(endpoint).netloc
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{now[:8]}/{REGION}/s3/aws4_request"
    query = (query or {}) | {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256",
        "X-Amz-Credential": f"{ACCESS_KEY}/{scope}",
        "X-Amz-Date": now,
        "X-Amz-Expires": "3600",
        "X-Amz-SignedHeaders": "host",
    }
    query = urllib.parse.urlencode(sorted(query.items()), quote_via=urllib.parse.quote, safe="")
    path = urllib.parse.quote(f"/{bucket}/{key}" if key else f"/{bucket}", safe="/-_.~")
    request = f"{method}\n{path}\n{query}\nhost:{host}\n\nhost\nUNSIGNED-PAYLOAD"
    to_sign = f"AWS4-HMAC-SHA256\n{now}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signing_key = f"AWS4{SECRET_KEY}".encode()
    for part in scope.split("/"):
        signing_key = hmac.digest(signing_key, part.encode(), "sha256")
    return f"{path}?{query}&X-Amz-Signature={hmac.new(signing_key, to_sign.encode(), 'sha256').hexdigest()}"


class Client:
    """A connection to the embedded S3 that stays open."""

    def __init__(self, endpoint):
        self._endpoint = endpoint
        self._connection = http.client.HTTPConnection(urllib.parse.urlsplit(endpoint).netloc, timeout=STALLED_S)

    def send(self, method, link, body=None):
        self._connection.request(method, link, body)
        response = self._connection.getresponse()
        content = response.read()
        if response.status != 200:
            raise RuntimeError(f"{method} {link.split('?')[0]}: {response.status} {content[:500]!r}")
        return content

    def get(self, bucket, key):
        return self.send("GET", presigned(self._endpoint, "GET", bucket, key))

    def list(self, bucket, prefix):
        token = None
        while True:
            query = {"list-type": "2", "prefix": prefix} | ({"continuation-token": token} if token else {})
            page = self.send("GET", presigned(self._endpoint, "GET", bucket, query=query))
            page = xml.etree.ElementTree.fromstring(page)
            yield from (key.text for key in page.findall("{*}Contents/{*}Key"))
            token = page.findtext("{*}NextContinuationToken")
            if not token:
                return
