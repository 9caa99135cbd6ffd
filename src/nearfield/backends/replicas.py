"""Replicas: one model on several devices, each with its own copy of the weights.

Each lane of the engine has one replica, so that a replica takes the next batch when one of its lanes is free. A batch
that fails on a replica runs once more on another one.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol
from weakref import WeakSet

from nearfield.arrays import Array
from nearfield.backends import Backend, BackendOptions, Executor, Inputs, Program
from nearfield.backends.packed_program import PackedProgram
from nearfield.backends.replica_process import ProcessExecutor, ReplicaLostError, ReplicaProcess
from nearfield.devices import ModelDevice
from nearfield.errors import NearfieldError
from nearfield.fork_safety import ProcessLock
from nearfield.hardware import CpuPlan
from nearfield.ops import Graph

#: Seconds for which the lanes of a replica that failed, where another one did not, use others.
_REST_SECONDS = 10.0
_LOG = logging.getLogger(__name__)


class ReplicatedBackend(Backend):
    """A backend on several devices: sets of CPUs have a process each, devices of torch are used from this one."""

    def __init__(
        self, kind: type[Backend], options: BackendOptions, devices: Sequence[ModelDevice], plans: Sequence[CpuPlan]
    ) -> None:
        super().__init__(options)
        self._devices, self._plans = devices, plans
        self._backends = [
            kind(replace(options, cpu=plan, device="cpu" if device.cpus else device.name))
            for device, plan in zip(devices, plans, strict=True)
        ]
        first = self._backends[0]
        self.batch_tokens, self.packed = first.batch_tokens, first.packed
        self.device = "cpu" if devices[0].cpus else devices[0].name

    @property
    def modules(self) -> tuple[str, ...]:
        return self._backends[0].modules

    def enter_fork(self) -> bool:
        return all(backend.enter_fork() for backend in self._backends)

    def compile(self, graph: Graph) -> ReplicatedProgram:
        replicas: list[Replica] = []
        packed: dict[CpuPlan, PackedProgram] = {}
        for device, plan, backend in zip(self._devices, self._plans, self._backends, strict=True):
            if not device.cpus:
                replicas.append(LocalReplica(device, plan, backend.compile(graph)))
                continue
            if plan not in packed:
                packed[plan] = backend.pack(graph)
            replicas.append(ProcessReplica(device, plan, packed[plan]))
        for replica in replicas:
            replica.wait()  # sets of CPUs load at the same time
        return ReplicatedProgram(replicas)


class Replica(Protocol):
    """A program on one device."""

    device: ModelDevice
    plan: CpuPlan
    precision: str
    #: The executors of the lanes that have it.
    lanes: WeakSet[ReplicaExecutor]
    #: Whether it has run a batch.
    proven: bool
    #: The time of ``time.monotonic`` until which its lanes use others.
    rests_until: float

    def wait(self) -> None:
        """Wait until it is loaded; raise why it is not."""

    def create_executor(self) -> Executor:
        """Create an executor on the device; a process that has ended is started again."""

    @property
    def bytes(self) -> int:
        """Memory of the host that it takes beside that of this process."""


class LocalReplica:
    """A program on a device that this process uses."""

    def __init__(self, device: ModelDevice, plan: CpuPlan, program: Program) -> None:
        self.device, self.plan, self._program = device, plan, program
        self.lanes: WeakSet[ReplicaExecutor] = WeakSet()
        self.proven, self.rests_until = False, 0.0
        self.bytes = 0
        self.precision = program.precision

    def wait(self) -> None:
        """It is loaded."""

    def create_executor(self) -> Executor:
        """Create an executor on the device."""
        return self._program.create_executor()


class ProcessReplica:
    """A program in a process on a set of CPUs. The file of the program stays open, so that it can be started again."""

    def __init__(self, device: ModelDevice, plan: CpuPlan, packed: PackedProgram) -> None:
        self.device, self.plan, self._packed = device, plan, packed
        self.lanes: WeakSet[ReplicaExecutor] = WeakSet()
        self.proven, self.rests_until = False, 0.0
        self.precision = packed.precision
        self._lock = ProcessLock()
        self._process = ReplicaProcess(device, plan, packed)

    def wait(self) -> None:
        """Wait until the program is loaded; raise why it is not."""
        self._process.wait()

    def create_executor(self) -> Executor:
        """Create an executor on the CPUs, in a new process if the last one has ended."""
        with self._lock:
            if not self._process.alive:
                self._process = self._restarted()
            return ProcessExecutor(self._process)

    def _restarted(self) -> ReplicaProcess:
        """Return a new process with the program; a failure is one of the replica, not of the input."""
        try:
            process = ReplicaProcess(self.device, self.plan, self._packed)
            process.wait()
        except Exception as error:
            raise ReplicaLostError(f"the process of {self.device.name} cannot be started again: {error}") from error
        _LOG.warning("The process of %s was started again.", self.device.name)
        return process

    @property
    def bytes(self) -> int:
        """The memory of the process."""
        return self._process.bytes


class ReplicatedProgram:
    """A program on several devices."""

    def __init__(self, replicas: Sequence[Replica]) -> None:
        self.replicas = replicas
        self.precision: str = replicas[0].precision
        self._lock = ProcessLock()

    @property
    def bytes(self) -> int:
        """Memory of the host that replicas take beside that of this process."""
        return sum(replica.bytes for replica in self.replicas)

    def create_executor(self) -> ReplicaExecutor:
        """Create an executor on the replica that has the fewest for the number of its streams."""
        with self._lock:
            own = min(self.replicas, key=lambda replica: len(replica.lanes) / replica.plan.streams)
            executor = ReplicaExecutor(own, self.replicas)
            own.lanes.add(executor)
        return executor


class ReplicaExecutor:
    """Runs batches on one replica; on another one while it rests, and what fails on it."""

    def __init__(self, own: Replica, replicas: Sequence[Replica]) -> None:
        self.own = own
        self._replicas = replicas
        self._executors: dict[str, Executor] = {}

    def run(self, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        """Run one batch.

        Raises:
            Exception: what the runtime raised, if the batch failed on two replicas, or on one that never ran any: where
                there is one alone, it fails if its process ends twice.
        """
        replica = self._next_replica()
        try:
            return self._run_on(replica, inputs, outputs)
        except NearfieldError:
            raise  # the input is wrong, and would be elsewhere
        except Exception as error:
            other = self._other(replica, error)
            if other is None:
                raise
            return self._run_again(replica, other, error, inputs, outputs)

    def _run_on(self, replica: Replica, inputs: Inputs, outputs: Sequence[str]) -> dict[str, Array]:
        name = replica.device.name
        try:
            executor = self._executors.get(name) or replica.create_executor()
            results = executor.run(inputs, outputs)
        except BaseException:
            self._executors.pop(name, None)  # its connection may be lost
            raise
        replica.proven = True
        self._executors[name] = executor
        return results

    def _run_again(
        self, failed: Replica, other: Replica, error: Exception, inputs: Inputs, outputs: Sequence[str]
    ) -> dict[str, Array]:
        """Run a batch on another replica. Only if that succeeds, the failure is not that of the batch."""
        results = self._run_on(other, inputs, outputs)
        failed.rests_until = time.monotonic() + _REST_SECONDS if other is not failed else 0.0
        # The error itself would keep the model in memory for as long as a handler has the record.
        _LOG.warning("A batch failed on %s and ran on %s: %s", failed.device.name, other.device.name, str(error))
        return results

    def _next_replica(self) -> Replica:
        now = time.monotonic()
        ready = [replica for replica in self._replicas if replica.rests_until <= now]
        if not ready or self.own in ready:
            return self.own
        return ready[id(self) // 64 % len(ready)]

    def _other(self, failed: Replica, error: Exception) -> Replica | None:
        """Return the replica for a batch that failed; None if it failed where none ever ran."""
        others = [replica for replica in self._replicas if replica is not failed and replica.proven]
        if not failed.proven or not (others or isinstance(error, ReplicaLostError)):
            return None
        return min(others, key=lambda replica: replica.rests_until, default=failed)
