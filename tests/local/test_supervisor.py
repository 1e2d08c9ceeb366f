"""What the supervisor promises, shown with real processes that misbehave."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from local.processes import is_alive
from local.service import DrainStage, Timing
from local.snapshot import Phase, ServiceState
from tests.local.fake_system import FakeSpec, FakeSystem
from tests.local.systems import RunningSystem, wait_until

Start = Callable[[FakeSystem], RunningSystem]
QUICK = Timing(backoff_first_s=0.05, look_ready_s=0.1, look_starting_s=0.02, quit_s=0.3)


def test_the_system_is_ready_when_all_essential_services_are(start: Start) -> None:
    slow = FakeSpec(name="slow", arguments=("--ready-after", "0.5"))

    system = start(FakeSystem(services=(FakeSpec(name="quick"), slow), timing=QUICK))

    system.wait_for_phase(Phase.READY)
    assert system.service("slow").state is ServiceState.READY
    assert (system.service("slow").ready_s or 0) >= 0.5
    assert (system.service("quick").ready_s or 9) < 0.5
    wait_until(lambda: "the system is ready" in system.output(), "it says so")


def test_a_service_that_is_not_essential_starts_last_and_delays_nobody(start: Start) -> None:
    late = FakeSpec(name="flower", arguments=("--ready-after", "0.3"), essential=False, after_ready=True)

    system = start(FakeSystem(services=(late, FakeSpec(name="desktop")), timing=QUICK))

    system.wait_for_phase(Phase.READY)
    assert system.service("flower").state is not ServiceState.READY
    system.wait_for_state("flower", ServiceState.READY)
    assert [event for event in system.journal() if event.startswith("started")] == ["started desktop", "started flower"]


def test_clients_are_told_where_the_gateway_is_while_it_runs(start: Start) -> None:
    system = start(FakeSystem(services=(FakeSpec(name="gateway", stage=DrainStage.ACCEPTING),), timing=QUICK))
    wait_until(system.state.endpoint_file.exists, "announced")

    system.process.send_signal(signal.SIGTERM)

    assert system.process.wait(timeout=10) == 0
    assert not system.state.endpoint_file.exists()


def test_a_killed_service_is_started_again(start: Start) -> None:
    system = start(FakeSystem(services=(FakeSpec(name="desktop"),), timing=QUICK))
    system.wait_for_phase(Phase.READY)
    first = system.pid_of("desktop")

    os.kill(first, signal.SIGKILL)

    wait_until(lambda: system.service("desktop").pid not in (None, first), "another process")
    system.wait_for_state("desktop", ServiceState.READY)
    assert system.service("desktop").restarts == 1


def test_what_a_dead_service_left_in_its_session_is_killed_before_the_next_start(start: Start, tmp_path: Path) -> None:
    system = start(FakeSystem(services=(FakeSpec(name="desktop", arguments=("--grandchild",)),), timing=QUICK))
    system.wait_for_phase(Phase.READY)
    grandchild = int((tmp_path / "desktop.grandchild").read_text())
    assert is_alive(grandchild)

    os.kill(system.pid_of("desktop"), signal.SIGKILL)

    wait_until(lambda: not is_alive(grandchild), "the grandchild dead")


def test_each_quick_death_doubles_the_pause(start: Start) -> None:
    timing = Timing(backoff_first_s=0.1, quick_deaths=4, look_starting_s=0.02)

    system = start(FakeSystem(services=(FakeSpec(name="desktop", arguments=("--crash",)),), timing=timing))

    began = time.monotonic()
    wait_until(lambda: (system.folder / "journal").exists(), "started")
    system.wait_for_phase(Phase.DEGRADED)
    assert time.monotonic() - began >= 0.1 + 0.2 + 0.4
    assert system.journal() == ["started desktop"] * 4


def test_a_crash_loop_is_given_up_with_the_last_words_and_the_others_go_on(start: Start) -> None:
    broken = FakeSpec(name="broken", arguments=("--crash",))

    system = start(FakeSystem(services=(broken, FakeSpec(name="desktop")), timing=QUICK))

    system.wait_for_phase(Phase.DEGRADED)
    assert system.journal().count("started broken") == 6
    given_up = system.service("broken")
    assert given_up.state is ServiceState.CRASH_LOOP
    assert "exited with 3" in given_up.note
    assert given_up.last_words == ("broken says hello", "last words: it does not work")
    assert system.service("desktop").state is ServiceState.READY
    assert "last words: it does not work" in system.output()


def test_one_crash_at_the_start_delays_but_does_not_break(start: Start) -> None:
    system = start(FakeSystem(services=(FakeSpec(name="desktop", arguments=("--crash-once",)),), timing=QUICK))

    system.wait_for_phase(Phase.READY)

    assert system.service("desktop").restarts == 1


def test_a_worker_that_lives_but_is_silent_is_killed_and_started_again(start: Start, tmp_path: Path) -> None:
    timing = Timing(backoff_first_s=0.05, look_ready_s=0.1, look_starting_s=0.02, silent_after_s=0.5)
    worker = FakeSpec(name="desktop-1", heartbeat=True)
    system = start(FakeSystem(services=(worker,), broker=True, timing=timing))
    system.wait_for_phase(Phase.READY)
    first = system.pid_of("desktop-1")

    (tmp_path / "desktop-1.hang").touch()

    wait_until(lambda: not is_alive(first), "the silent one killed")
    (tmp_path / "desktop-1.hang").unlink()
    wait_until(lambda: system.service("desktop-1").restarts == 1, "started again")
    system.wait_for_state("desktop-1", ServiceState.READY)
    assert "silent: last heartbeat" in system.output()


def test_a_killed_broker_comes_back_and_no_worker_is_blamed_for_its_absence(start: Start) -> None:
    timing = Timing(backoff_first_s=1.0, look_ready_s=0.1, look_starting_s=0.02, silent_after_s=0.5)
    worker = FakeSpec(name="desktop-1", heartbeat=True)
    system = start(FakeSystem(services=(worker,), broker=True, timing=timing))
    system.wait_for_phase(Phase.READY)
    broker, desktop = system.pid_of("broker"), system.pid_of("desktop-1")

    os.kill(broker, signal.SIGKILL)

    wait_until(lambda: system.service("broker").pid not in (None, broker), "another broker")
    system.wait_for_state("broker", ServiceState.READY)
    assert system.service("desktop-1").restarts == 0
    assert system.pid_of("desktop-1") == desktop


def test_the_drain_ends_the_gateway_first_and_the_broker_last(start: Start) -> None:
    stages = {
        "cache": DrainStage.CACHE,
        "beat": DrainStage.WATCHING,
        "desktop": DrainStage.WORKING,
        "gateway": DrainStage.ACCEPTING,
        "store": DrainStage.BROKER,
    }
    services = tuple(FakeSpec(name=name, stage=stage, arguments=("--drain", "0.1")) for name, stage in stages.items())
    system = start(FakeSystem(services=services, timing=QUICK))
    system.wait_for_phase(Phase.READY)

    system.process.send_signal(signal.SIGTERM)

    assert system.process.wait(timeout=10) == 0
    order = [event for event in system.journal() if not event.startswith("started")]
    down = ["gateway", "desktop", "beat", "cache", "store"]
    assert order == [f"{event} {name}" for name in down for event in ("told", "ended")]


def test_a_worker_may_use_the_whole_drain_time(start: Start) -> None:
    worker = FakeSpec(name="desktop", arguments=("--drain", "1.5"), grace_s=0.1)
    system = start(FakeSystem(services=(worker,), drain_s=5, timing=QUICK))
    system.wait_for_phase(Phase.READY)

    system.process.send_signal(signal.SIGINT)

    assert system.process.wait(timeout=10) == 0
    assert system.journal()[-1] == "ended desktop"


def test_a_worker_that_does_not_heed_term_is_killed_when_the_time_is_over(start: Start) -> None:
    worker = FakeSpec(name="desktop", arguments=("--ignore-term",), grace_s=0.1)
    system = start(FakeSystem(services=(worker,), drain_s=0.3, timing=QUICK))
    system.wait_for_phase(Phase.READY)

    system.process.send_signal(signal.SIGTERM)

    assert system.process.wait(timeout=10) == 0
    assert system.left_over() == []


def test_a_second_interrupt_ends_everything_now(start: Start) -> None:
    worker = FakeSpec(name="desktop", arguments=("--drain", "60"))
    system = start(FakeSystem(services=(worker,), drain_s=60, timing=QUICK))
    system.wait_for_phase(Phase.READY)
    system.process.send_signal(signal.SIGINT)
    wait_until(lambda: "told desktop" in system.journal(), "draining")

    began = time.monotonic()
    system.process.send_signal(signal.SIGINT)

    assert system.process.wait(timeout=10) == 0
    assert time.monotonic() - began < 2
    assert system.left_over() == []


def test_nothing_is_left_within_five_seconds_of_kill_9_of_the_supervisor(start: Start, tmp_path: Path) -> None:
    stubborn = FakeSpec(name="desktop", arguments=("--ignore-term", "--grandchild"))
    services = (FakeSpec(name="gateway"), stubborn)
    system = start(FakeSystem(services=services, broker=True, timing=QUICK))
    system.wait_for_phase(Phase.READY)
    wait_until(system.state.endpoint_file.exists, "announced")
    grandchild = int((tmp_path / "desktop.grandchild").read_text())
    assert {system.pid_of("broker"), system.pid_of("desktop"), grandchild} <= set(system.left_over())

    system.process.kill()
    system.process.wait()

    wait_until(lambda: not system.left_over(), "all gone", timeout_s=5)
    assert not is_alive(grandchild)
    assert not system.state.endpoint_file.exists()
    assert system.state.running_pid() is None


def test_a_killed_watchdog_is_replaced_and_knows_everybody(start: Start, tmp_path: Path) -> None:
    system = start(FakeSystem(services=(FakeSpec(name="desktop", arguments=("--grandchild",)),), timing=QUICK))
    system.wait_for_phase(Phase.READY)
    snapshot = system.snapshot()
    assert snapshot is not None
    assert snapshot.guard_pid is not None

    os.kill(snapshot.guard_pid, signal.SIGKILL)
    wait_until(lambda: (now := system.snapshot()) and now.guard_pid != snapshot.guard_pid, "a new watchdog")
    system.process.kill()
    system.process.wait()

    wait_until(lambda: not is_alive(int((tmp_path / "desktop.grandchild").read_text())), "all gone", timeout_s=5)
