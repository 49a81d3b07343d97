"""The supervisor: starts one control process and N workers, replaces those that die or stand still, ends them in order.

In: settings, signals, deaths of children, messages on their ready pipes. Out: an exit code: 0 after a drain; 2 if the address or the
data folder belongs to another process; 1 if a child cannot start and the gateway has never served (later the supervisor retries for
ever while the other children serve). One thread and one `select`, because the kernel ties the children's parent-death signal to the
thread that spawned them. The supervisor serves no request and reads no configuration. Its death by SIGKILL ends all children.
"""

import contextlib
import fcntl
import os
import resource
import selectors
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING, Final, NoReturn

from aigw.errors import AddressInUse, AigwError, ConfigError, StoreError
from aigw.serve import child
from aigw.serve.beats import Beats
from aigw.serve.listen import hold
from aigw.serve.log import Log, check_access_log
from aigw.serve.outlet import take_over
from aigw.serve.slot import Slot
from aigw.settings import Settings

if TYPE_CHECKING:
    from aigw.serve.certificate import Certificate

KILL_AFTER_S: Final = 3.0  # seconds beyond a child's own deadline
CONTROL_END_S: Final = 5.0
START_ATTEMPTS: Final = 3  # of a worker, before the gateway has ever served


class Supervisor:
    """One gateway. `run` once, on the main thread."""

    def __init__(self, settings: Settings) -> None:
        self._log = Log(settings.log_format, "supervisor", take_over(stream=False))
        self._selector = selectors.DefaultSelector()
        self._certificate = _certificate(settings)
        self._served: dict[str, int] = {}
        """Worker -> version of the certificate that it serves."""
        self._made_data = not settings.data.exists()
        self._lock = _lock(settings.data)
        try:
            check_access_log(settings.access_log)  # the file may be in the data folder
        except ConfigError:
            self._leave_no_trace(settings.data)
            raise
        held_proxy, proxy = hold(settings.proxy, "proxy")
        held_admin, admin = hold(settings.admin, "admin")
        held_tls, tls = (None, None) if settings.proxy_tls is None else hold(settings.proxy_tls, "proxy-tls")
        self._held = (held_proxy, held_admin, held_tls)
        self.settings = replace(settings, proxy=proxy, admin=admin, proxy_tls=tls)
        self._go_read, self._go_write = os.pipe()
        self._messages = -1
        self._control = Slot("control", self._spawn_control)
        self._workers = [self._worker(f"worker-{n + 1}") for n in range(settings.workers)]
        self._beats = Beats(settings.data / "cells", settings.hang_timeout)
        self._announced = False
        self._stopping = 0  # number of stop signals received
        self._hangups = 0
        self._told = 0  # number of stop signals passed on to the workers
        self._control_told = False
        self._kill_at: float | None = None

    # --- children ---

    def _worker(self, name: str) -> Slot:
        return Slot(name, lambda: self._spawn_worker(name))

    def _orders(self, name: str, ready_fd: int, go_fd: int = -1, control_fd: int = -1) -> child.Orders:
        # control's first readiness closes the go pipe.
        return child.Orders(
            name=name,
            first=self._go_write >= 0,
            settings=self.settings.as_text(),
            supervisor=os.getpid(),
            ready_fd=ready_fd,
            go_fd=go_fd,
            control_fd=control_fd,
            certificate_fd=-1 if self._certificate is None else self._certificate.descriptor,
        )

    def _spawn_worker(self, name: str) -> "tuple[Popen[bytes], int]":
        with _passed_on() as (ready, theirs):
            return child.spawn("aigw.serve.worker", self._orders(name, theirs, go_fd=self._go_read)), ready

    def _spawn_control(self) -> "tuple[Popen[bytes], int]":
        with _passed_on() as (ready, theirs), _passed_on(writing=True) as (ours, messages):
            process = child.spawn("aigw.serve.control_process", self._orders("control", theirs, control_fd=messages))
        if self._messages >= 0:
            os.close(self._messages)
        os.set_blocking(ours, False)
        self._messages = ours
        return process, ready

    def _tell_control(self, message: str) -> None:
        # The message may be lost if control is dead or stuck: control gets `reclaim` again at each of its starts.
        with contextlib.suppress(OSError):
            os.write(self._messages, message.encode() + b"\n")

    def _count_dropped(self) -> None:
        if dropped := self._log.outlet.take_dropped():
            self._tell_control(f"dropped:{dropped}")

    def _slots(self) -> list[Slot]:
        return [self._control, *self._workers]

    # --- the loop ---

    def run(self) -> int:
        """Serve until a stop signal. Returns the exit code. Raises StoreError or ConfigError if a child cannot start."""
        wake, wake_write = socket.socketpair()
        wake.setblocking(False)
        wake_write.setblocking(False)
        signal.set_wakeup_fd(wake_write.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, self._on_signal)
        self._selector.register(wake, selectors.EVENT_READ)
        _raise_file_limit()
        while True:
            now = time.monotonic()
            self._reap(now)
            if self._stopping:
                if self._ended():
                    self._log("stopped")
                    return 0
                self._end(now)
            else:
                self._start_due(now)
            self._look_at_beats(now)
            self._look_at_certificate(now, asked=bool(self._hangups))
            self._pass_on_hangups()
            self._count_dropped()
            for key, _ in self._selector.select(self._pause(time.monotonic())):
                if key.fileobj is wake:
                    with contextlib.suppress(BlockingIOError):
                        wake.recv(4096)
                else:
                    self._on_ready(key.data)

    def _on_signal(self, number: int, _frame: object) -> None:
        if number == signal.SIGHUP:
            self._hangups += 1
        elif number != signal.SIGCHLD:
            self._stopping += 1

    def _pass_on_hangups(self) -> None:
        if self._hangups:
            self._hangups = 0
            self._tell_control("reload")

    def _look_at_beats(self, now: float) -> None:
        """Kill the workers that stand still; their deaths are found like others."""
        if self._stopping or now < self._beats.next_look:
            return
        ready = {slot.pid: slot for slot in self._workers if slot.ready and slot.pid is not None}
        for still in self._beats.look(now, list(ready)):
            slot = ready[still.pid]
            self._log("hung", child=slot.name, pid=still.pid, part=still.part, silent_s=still.silent_s)
            slot.send(signal.SIGKILL)
            self._tell_control("hung")

    def _look_at_certificate(self, now: float, *, asked: bool) -> None:
        """Let the workers serve another certificate when the files have one. A pair that cannot be used changes nothing."""
        one = self._certificate
        if one is None or self._stopping or not (asked or now >= one.next_look):
            return
        try:
            if one.look(now, asked=asked):
                self._log("certificate_renewed", file=self.settings.tls_cert, fingerprint=one.fingerprint)
                for slot in self._workers:
                    self._renew(slot)
        except ConfigError as error:
            self._log("certificate_rejected", why=f"{error}; the certificate before stays in force")

    def _renew(self, slot: Slot) -> None:
        """Tell a ready worker of a certificate that it does not serve yet."""
        if self._certificate is not None and slot.ready and self._served.get(slot.name) != self._certificate.version:
            self._served[slot.name] = self._certificate.version
            slot.send(signal.SIGHUP)

    def _pause(self, now: float) -> float | None:
        """Seconds until the next planned start, kill or look; None without a plan."""
        times = [slot.due for slot in self._slots() if slot.due is not None and not self._stopping]
        if self._kill_at is not None:
            times.append(self._kill_at)
        if self._certificate is not None and not self._stopping:
            times.append(self._certificate.next_look)
        if not self._stopping and any(slot.ready for slot in self._workers):
            times.append(self._beats.next_look)
        return max(0.0, min(times) - now) if times else None

    def _start_due(self, now: float) -> None:
        for slot in self._slots():
            if slot.due is not None and slot.due <= now:
                if self._certificate is not None:
                    self._served[slot.name] = self._certificate.version
                try:
                    pid = slot.start(now)
                except OSError as error:
                    if not self._announced:
                        self._give_up(f"{slot.name}: {error}")
                    # The other children keep serving.
                    self._log("not_started", child=slot.name, error=str(error))
                    continue
                self._selector.register(slot.ready_fd, selectors.EVENT_READ, slot)
                self._log("started", child=slot.name, pid=pid)

    def _on_ready(self, slot: Slot) -> None:
        self._selector.unregister(slot.ready_fd)
        slot.hear()
        if slot.ready:
            self._log("ready", child=slot.name, pid=slot.pid)
            if slot is not self._control:
                self._renew(slot)
        if slot is self._control and slot.ready:
            if self._go_write >= 0:
                os.close(self._go_write)  # workers may open the data folder
                self._go_write = -1
            self._tell_control("reclaim")
        if not self._announced and all(slot.ready for slot in self._slots()):
            self._announced = True
            addresses = {
                "proxy": self.settings.proxy,
                "proxy_tls": self.settings.proxy_tls,
                "admin": self.settings.admin,
            }
            shown = {name: f"{address}" for name, address in addresses.items() if address is not None}
            self._log("serving", **shown, pid=os.getpid())

    def _reap(self, now: float) -> None:
        for slot in self._slots():
            pid, was_ready, ready_fd = slot.pid, slot.ready, slot.ready_fd
            if (status := slot.reap(now)) is None:
                continue
            if ready_fd >= 0 and ready_fd in self._selector.get_map():
                self._selector.unregister(ready_fd)
            if not self._stopping or status:
                self._log("died", child=slot.name, pid=pid, status=status, was_ready=was_ready)
            if slot is not self._control:
                self._tell_control("reclaim")
            if not self._announced and not self._stopping and not slot.ready:
                self._judge_start(slot, status)

    def _judge_start(self, slot: Slot, status: int) -> None:
        """End the start of a gateway that has never served and cannot: its starter must know."""
        wrong = status == child.CONFIG_STATUS
        # Workers that start at once may be in each other's way for a moment; what control finds, it would find again.
        attempts = 1 if slot.why and slot is self._control else START_ATTEMPTS
        if not wrong and slot.early_deaths < attempts:
            return
        why = slot.why or f"it died {slot.early_deaths} times before it served (status {status}); its log is above"
        self._give_up(f"{slot.name}: {why}", ConfigError if wrong else StoreError)

    def _give_up(self, why: str, error: type[AigwError] = StoreError) -> NoReturn:
        for slot in self._slots():
            slot.end()
        self._leave_no_trace(self.settings.data)
        self._log.outlet.flush()  # the reason is the last line
        raise error(f"the gateway cannot start: {why}")

    def _leave_no_trace(self, data: Path) -> None:
        """Remove a data folder that this process made, if it holds nothing except the lock."""
        if self._made_data:
            with contextlib.suppress(OSError):
                if [entry.name for entry in data.iterdir()] == ["lock"]:
                    (data / "lock").unlink()
                    data.rmdir()

    # --- the end ---

    def _ended(self) -> bool:
        return all(slot.pid is None for slot in self._slots())

    def _end(self, now: float) -> None:
        """Let workers drain, then end control; kill children that exceed their deadline."""
        alive = [slot for slot in self._workers if slot.pid is not None]
        if self._kill_at is None:
            self._log("draining", deadline_s=self.settings.drain_timeout)
            self._told = 1
            self._kill_at = now + self.settings.drain_timeout + KILL_AFTER_S
            self._signal_workers(alive)
        elif alive and self._stopping > self._told:
            self._told = self._stopping
            self._kill_at = now + KILL_AFTER_S
            self._signal_workers(alive)
        if not alive and not self._control_told:
            self._control_told = True
            self._kill_at = now + (CONTROL_END_S if self._stopping == 1 else 1.0)
            self._control.send(signal.SIGTERM)
        if now >= self._kill_at:
            for slot in alive or [self._control]:
                slot.send(signal.SIGKILL)
            self._kill_at = now + KILL_AFTER_S

    def _signal_workers(self, alive: list[Slot]) -> None:
        for slot in alive:
            # A worker that is not ready has no requests and may lack its signal handler. SIGQUIT means "at once": two SIGTERMs in
            # short order arrive as one.
            order = signal.SIGTERM if self._told == 1 else signal.SIGQUIT
            slot.send(order if slot.ready else signal.SIGKILL)


@contextlib.contextmanager
def _passed_on(*, writing: bool = False) -> Iterator[tuple[int, int]]:
    """A pipe: our end (the reading one unless `writing`) and the child's end. The child's end is closed here afterwards."""
    ours, theirs = os.pipe()[::-1] if writing else os.pipe()
    try:
        yield ours, theirs
    except BaseException:
        os.close(ours)
        raise
    finally:
        os.close(theirs)


def _certificate(settings: Settings) -> "Certificate | None":
    """The certificate of the settings. Raises ConfigError for one that cannot be used."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    from aigw.serve.certificate import Certificate  # noqa: PLC0415  (most gateways run behind a TLS proxy)

    return Certificate(settings.tls_cert, settings.tls_key)


def _lock(data: Path) -> int:
    """Lock the data folder for this process. The kernel releases the lock when the process ends, however it ends."""
    try:
        data.mkdir(0o700, parents=True, exist_ok=True)
        lock = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"--data: cannot use {data}: {error.strerror}") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise AddressInUse(
            f"the data folder {data} is in use by another gateway: stop it, or choose another folder with --data"
        ) from None
    return lock


def _raise_file_limit() -> None:
    """Raise the limit of open files to the hard limit. Each connection needs one, and children inherit the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
