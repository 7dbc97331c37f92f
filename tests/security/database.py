# SPDX-License-Identifier: Apache-2.0
"""Changes the database of a stopped server, as if another version had written it."""

import contextlib
import sqlite3
import struct


def row_sum(rv, at, type, kind, ns, name, value):
    h = 0xcbf29ce484222325  # FNV-1a of the row, as the server writes it
    for b in struct.pack("=qqq", rv, at, type) + f"{kind}\0{ns}\0{name}\0".encode() + value:
        h = (h ^ b) * 0x100000001b3 % 2**64
    return h - 2**64 if h >= 2**63 else h


def rewrite(server, change, age=0):
    """Replaces the stored texts by change(name, text)."""
    with contextlib.closing(sqlite3.connect(server.database)) as db:
        for rv, at, type, kind, ns, name, value in db.execute("SELECT rv, at, type, kind, ns, name, value FROM log").fetchall():
            new = change(name, bytes(value))
            if new != bytes(value):
                row = (rv, at - age, type, kind, ns, name, new)
                db.execute("UPDATE log SET at = ?, value = ?, sum = ? WHERE rv = ?", (at - age, new, row_sum(*row), rv))
        db.commit()
