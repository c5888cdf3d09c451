"""Commands in a terminal, as a person types them, and what stands on the screen."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time

ROWS, COLUMNS = 50, 110
SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|\x1b[()].|\x1b[=>78]")


class Screen:
    """What a terminal shows: text, moves of the cursor, erasing; colours are left out."""

    def __init__(self):
        self.lines, self.row, self.column = [[]], 0, 0
        self.rest = ""

    def put(self, char):
        while len(self.lines) <= self.row:
            self.lines.append([])
        line = self.lines[self.row]
        line.extend(" " * (self.column + 1 - len(line)))
        line[self.column] = char
        self.column += 1

    def feed(self, text):
        text = self.rest + text
        # A sequence may come in two parts.
        cut = text.rfind("\x1b")
        self.rest = text[cut:] if cut >= 0 and not SEQUENCE.match(text, cut) else ""
        text = text[: len(text) - len(self.rest)]
        at = 0
        while at < len(text):
            found = SEQUENCE.match(text, at)
            if found:
                self.control(found.group(1) or "", found.group(2))
                at = found.end()
                continue
            char, at = text[at], at + 1
            if char == "\r":
                self.column = 0
            elif char == "\n":
                self.row += 1
                while len(self.lines) <= self.row:
                    self.lines.append([])
            elif char >= " ":
                self.put(char)

    def control(self, numbers, letter):
        given = [int(one) if one.isdigit() else 0 for one in numbers.split(";")]
        if letter == "H":
            self.row = max(given[0], 1) - 1
            self.column = max(given[1] if len(given) > 1 else 1, 1) - 1
        elif letter == "J" or (letter in "hl" and numbers == "?1049"):
            self.lines, self.row, self.column = [[]], 0, 0
        elif letter == "K" and self.row < len(self.lines):
            del self.lines[self.row][self.column :]

    def text(self):
        return "\n".join("".join(line).rstrip() for line in self.lines)


def begin():
    """What a login does: the terminal is the session's, and Ctrl-C interrupts, though this was started in the background."""
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Command:
    """A command that runs in a terminal of its own."""

    def __init__(self, text, folder, environment):
        leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        own = dict(environment, TERM="xterm", NO_COLOR="1")
        self.text, self.screen = text, Screen()
        self.process = subprocess.Popen(
            ["bash", "-c", text], cwd=folder, env=own, stdin=follower, stdout=follower, stderr=follower,
            start_new_session=True, preexec_fn=begin,
        )
        os.close(follower)
        self.leader = leader
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        pending = b""
        while True:
            try:
                chunk = os.read(self.leader, 65536)
            except OSError:
                return
            if not chunk:
                return
            pending += chunk
            try:
                text, pending = pending.decode(), b""
            except UnicodeDecodeError as wrong:
                text, pending = pending[: wrong.start].decode(), pending[wrong.start :]
            self.screen.feed(text)
            # Where the cursor is, some ask before they draw.
            for _ in range(text.count("\x1b[6n")):
                self.press(f"\x1b[{self.screen.row + 1};{self.screen.column + 1}R")

    def ended(self, patience):
        """Its exit code, or none if it still runs."""
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            return None
        self.reader.join(5)
        return code

    def press(self, keys):
        os.write(self.leader, keys.encode())

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.ended(10)


def until(patience, is_so):
    """Waits until something is true; whether it came to be."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        if is_so():
            return True
        time.sleep(0.1)
    return is_so()
