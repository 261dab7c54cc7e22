"""The floor: a FastAPI route without any work (`POST /noop`) and one with a single INSERT (`POST /insert`).

`/insert` is what a service does at the very least to accept durably: psycopg2 on a thread, one row, one commit.
Arguments: a libpq URL, or nothing for `/noop` alone.
"""

import json
import socket
import sys
import threading
import uuid
from typing import Any

import psycopg2.pool
import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse

CONNECTIONS = 16
TABLE = (
    "CREATE TABLE IF NOT EXISTS bench_floor (id text PRIMARY KEY, body jsonb NOT NULL, at timestamptz DEFAULT now())"
)

app = FastAPI()
pool: psycopg2.pool.ThreadedConnectionPool | None = None
room = threading.Semaphore(CONNECTIONS)


@app.post("/noop")
async def noop(body: dict[str, Any]) -> JSONResponse:
    return JSONResponse({"text": body.get("text")})


@app.post("/insert")
def insert(body: dict[str, Any]) -> JSONResponse:
    assert pool is not None
    key = uuid.uuid4().hex
    with room:
        connection = pool.getconn()
        try:
            with connection, connection.cursor() as cursor:
                cursor.execute("INSERT INTO bench_floor (id, body) VALUES (%s, %s)", (key, json.dumps(body)))
        finally:
            pool.putconn(connection)
    return JSONResponse({"id": key}, status_code=202)


def main() -> None:
    global pool
    if len(sys.argv) > 1:
        pool = psycopg2.pool.ThreadedConnectionPool(CONNECTIONS, CONNECTIONS, sys.argv[1])
        connection = pool.getconn()
        with connection, connection.cursor() as cursor:
            cursor.execute(TABLE)
        pool.putconn(connection)
    listening = socket.create_server(("127.0.0.1", 0), backlog=4096)
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, timeout_keep_alive=600))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    print(json.dumps({"url": f"http://127.0.0.1:{listening.getsockname()[1]}"}), flush=True)
    sys.stdin.read()
    server.should_exit = True
    thread.join(5)


if __name__ == "__main__":
    main()
