# SPDX-License-Identifier: Apache-2.0
"""An API that says something else to one agent than to all others, or hears something else from it."""

import socket
import threading


class Rewriter:
    """Stands between an agent and the API, and changes what the API says (`changes`) and what the agent asks
    (`questions`). Both texts are equally long, so that all else of a message remains true."""

    def __init__(self, path, upstream):
        self.path, self.upstream, self.changes, self.questions = path, upstream, {}, {}
        self.asked = b""  # what the agent has sent
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(path)
        self.listener.listen(50)
        self.sockets = []
        threading.Thread(target=self.serve, daemon=True).start()

    @staticmethod
    def replace(data, changes):
        for old, new in changes.items():
            assert len(old) == len(new)
            data = data.replace(old, new)
        return data

    def hear(self, data):
        data = self.replace(data, self.questions)
        self.asked += data
        return data

    def change(self, data):
        return self.replace(data, self.changes)

    def pump(self, a, b, change):
        try:
            while data := a.recv(1 << 20):
                b.sendall(change(data))
        except OSError:
            pass
        for s in (a, b):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def serve(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.upstream)
            self.sockets += [client, server]
            threading.Thread(target=self.pump, args=(client, server, self.hear), daemon=True).start()
            threading.Thread(target=self.pump, args=(server, client, self.change), daemon=True).start()

    def close(self):
        for s in (self.listener, *self.sockets):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            s.close()
