"""GPUs of this machine: by NVML through ctypes, else by what nvidia-smi prints."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Iterator

from ..wire import GpuFound

NVML_LIBRARY = "libnvidia-ml.so.1"
SMI_SECONDS_MAX = 20.0
UUID_BYTES = 96
NAME_BYTES = 96
MEBIBYTE = 1024**2


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class NvmlError(Exception):
    """NVML answered a call with an error code."""


def find() -> list[GpuFound]:
    """Every GPU a task could be given: of a GPU in MIG mode its instances, not itself. Empty when there is none."""
    try:
        return list(_by_nvml(ctypes.CDLL(NVML_LIBRARY)))
    except (OSError, NvmlError, AttributeError):
        return _by_smi()


def _by_nvml(nvml: ctypes.CDLL) -> Iterator[GpuFound]:
    _call(nvml, "nvmlInit_v2")
    try:
        count = ctypes.c_uint()
        _call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
        for index in range(count.value):
            device = ctypes.c_void_p()
            _call(nvml, "nvmlDeviceGetHandleByIndex_v2", ctypes.c_uint(index), ctypes.byref(device))
            yield from _parts_of(nvml, device)
    finally:
        nvml.nvmlShutdown()


def _parts_of(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> Iterator[GpuFound]:
    slices = list(_mig_devices(nvml, device))
    for part in slices or [device]:
        yield _describe(nvml, part)


def _mig_devices(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> Iterator[ctypes.c_void_p]:
    current, pending, most = ctypes.c_uint(), ctypes.c_uint(), ctypes.c_uint()
    try:
        _call(nvml, "nvmlDeviceGetMigMode", device, ctypes.byref(current), ctypes.byref(pending))
        if not current.value:
            return
        _call(nvml, "nvmlDeviceGetMaxMigDeviceCount", device, ctypes.byref(most))
    except (NvmlError, AttributeError):  # not a GPU or driver that can be sliced
        return
    for index in range(most.value):
        part = ctypes.c_void_p()
        try:
            _call(
                nvml, "nvmlDeviceGetMigDeviceHandleByIndex", device, ctypes.c_uint(index), ctypes.byref(part)
            )
        except NvmlError:  # this slot holds no instance
            continue
        yield part


def _describe(nvml: ctypes.CDLL, device: ctypes.c_void_p) -> GpuFound:
    uuid, name = ctypes.create_string_buffer(UUID_BYTES), ctypes.create_string_buffer(NAME_BYTES)
    memory = _Memory()
    _call(nvml, "nvmlDeviceGetUUID", device, uuid, ctypes.c_uint(UUID_BYTES))
    _call(nvml, "nvmlDeviceGetName", device, name, ctypes.c_uint(NAME_BYTES))
    _call(nvml, "nvmlDeviceGetMemoryInfo", device, ctypes.byref(memory))
    return GpuFound(
        uuid=uuid.value.decode(errors="replace"),
        name=name.value.decode(errors="replace"),
        memory_bytes=int(memory.total),
    )


def _call(nvml: ctypes.CDLL, function: str, *arguments: object) -> None:
    code = getattr(nvml, function)(*arguments)
    if code:
        raise NvmlError(f"{function}: error {code}")


def _by_smi() -> list[GpuFound]:
    query = ["nvidia-smi", "--query-gpu=uuid,name,memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, check=True, capture_output=True, text=True, timeout=SMI_SECONDS_MAX)
    except (OSError, subprocess.SubprocessError):
        return []
    return [gpu for gpu in map(_of_smi_line, done.stdout.splitlines()) if gpu]


def _of_smi_line(line: str) -> GpuFound | None:
    fields = [field.strip() for field in line.split(",")]
    if len(fields) != 3 or not fields[2].isdigit():
        return None
    return GpuFound(uuid=fields[0], name=fields[1], memory_bytes=int(fields[2]) * MEBIBYTE)
