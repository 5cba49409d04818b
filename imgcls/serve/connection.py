"""Connections that end: uvicorn itself waits for headers for ever, and takes all who come."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from imgcls.serve import app


class Connection(H11Protocol):
    """A connection that waits HEAD_SECONDS for its client, and is one of CONNECTIONS at most.

    The time runs from the first moment, and from the end of each answer on, until the head of a
    request is there: for an answer to be taken, a body that nobody read to end, and the next head.
    While a request is being answered it does not run: its body has a time of its own, in `Bounded`.
    """

    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Refuse at once, unread, who comes beyond the limit: who is silent holds a socket too."""
        super().connection_made(transport)
        if len(self.connections) > app.CONNECTIONS:
            self._refuse(503, f"{app.CONNECTIONS} connections are open: ask again in a moment.")
        else:
            self._wait()

    def handle_events(self) -> None:
        """Read what came; a head among it ends the waiting."""
        try:
            super().handle_events()
        except h11.LocalProtocolError:  # uvicorn refuses what is malformed, even after an answer
            self.transport.abort()
        else:
            self._settle()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        self._settle()

    def on_response_complete(self) -> None:
        """Wait for the next request, which may be here already."""
        self._wait()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._cancel()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._cancel()
        self.deadline = self.loop.call_later(app.HEAD_SECONDS, self._late)

    def _settle(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete
        if answering and not self.flow.write_paused:
            self._cancel()

    def _cancel(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()

    def _late(self) -> None:
        if self.transport.is_closing() or self.transport.get_write_buffer_size():
            self.transport.abort()  # closing would wait until the client has read all
        elif self.conn.our_state is h11.IDLE and self.conn.trailing_data[0]:
            self._refuse(408, f"The headers did not come within {app.HEAD_SECONDS:.0f} s.")
        else:
            self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        response = app.problem(status, message)
        headers = [*self.server_state.default_headers, *response.raw_headers]
        headers.append((b"connection", b"close"))
        events = (
            h11.Response(status_code=status, headers=headers),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        )
        for event in events:
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


UVICORN: dict[str, Any] = {
    "http": Connection, "ws": "none", "log_level": "warning", "access_log": False,
    "server_header": False, "timeout_keep_alive": 10, "timeout_graceful_shutdown": 15,
}  # fmt: skip
