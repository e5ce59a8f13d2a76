"""A `cascade` on data of its own, and what a test does to its queues."""

import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

CASCADE = os.environ["CASCADE"]

# Longer than anything here takes, so that what hangs fails.
PATIENCE_SECONDS = 60

# A small world, always the same, with a quota that a run does not have to wait for.
SMALL = ["--salespersons", "2", "--sales", "5", "--seed", "71", "--quota", "2400"]
START = ["--start", "2026-11-21T01:00:00Z"]

PAGE = re.compile(r"The page is at (http://\S+)")
CLOUD = re.compile(r"The cloud is at (http://\S+),")


def free_ports(count):
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def cascade(*arguments, data):
    """Runs a command to its end; its output."""
    command = [CASCADE, *arguments, "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS * 2)
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


class Serving:
    """A command that serves the page, until it is ended."""

    def __init__(self, *arguments, data, log):
        self.log = Path(log)
        with self.log.open("w", encoding="utf-8") as log_file:
            self.process = subprocess.Popen(
                [CASCADE, *arguments, "--data", str(data)], stdin=subprocess.DEVNULL, stdout=log_file, stderr=subprocess.STDOUT
            )
        try:
            self.url = self._said(PAGE)
        except BaseException:
            self.end()
            raise

    def _said(self, pattern):
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            text = self.log.read_text(encoding="utf-8")
            if found := pattern.search(text):
                return found[1]
            assert self.process.poll() is None, f"it ended:\n{text}"
            assert time.monotonic() < until, f"it did not say where the page is:\n{text}"
            time.sleep(0.05)

    @property
    def cloud(self):
        """Where its cloud is."""
        return self._said(CLOUD)

    def end(self):
        """Ends it as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(PATIENCE_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                raise


def up(data, port, *arguments, log):
    """`cascade up` on any free ports, and the page on `port`."""
    ports = ["--port", "0", "--vendor-port", "0", "--dashboard-port", str(port)]
    return Serving("up", *ports, *SMALL, *arguments, data=data, log=log)


class Queues:
    """The queues of an embedded cloud."""

    def __init__(self, cloud):
        self.cloud = cloud

    def _ask(self, operation, queue, **parameters):
        body = {"QueueUrl": f"{self.cloud}/000000000000/{queue}-local", **parameters}
        headers = {"Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": f"AmazonSQS.{operation}"}
        request = urllib.request.Request(self.cloud, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
            return json.loads(answer.read() or "{}")

    def send(self, queue, body, reason=None):
        """Sends a message, with the reason for which it failed."""
        attributes = {"reason": {"DataType": "String", "StringValue": reason}} if reason else {}
        self._ask("SendMessage", queue, MessageBody=json.dumps(body), MessageAttributes=attributes)

    def receive(self, queue):
        """Receives one message, and keeps it hidden."""
        self._ask("ReceiveMessage", queue, MaxNumberOfMessages=1, VisibilityTimeout=600)

    def purge(self, queue):
        """Deletes all messages that can be received."""
        while messages := self._ask("ReceiveMessage", queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                self._ask("DeleteMessage", queue, ReceiptHandle=message["ReceiptHandle"])
