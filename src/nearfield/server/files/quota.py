"""Quotas of stored files: limits for each owner and for all, and what is used of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nearfield.errors import QuotaExceeded, StorageFull
from nearfield.units import format_bytes, format_size


@dataclass(frozen=True)
class StorageLimits:
    """Limits of files and batches; 0 is no limit. An owner is an API key; without keys all clients are one owner."""

    total_bytes: int = 64 * 2**30
    owner_bytes: int = 16 * 2**30
    owner_files: int = 10_000
    owner_batches: int = 100


@dataclass(frozen=True)
class StorageUsage:
    """What one owner stores, in collections too, and the bytes of files that all owners store."""

    files: int = 0
    bytes: int = 0
    total_bytes: int = 0

    def add(self, owner: str, pending: Iterable[tuple[str, int]]) -> StorageUsage:
        """Return the usage with pending files, given by owner and size."""
        pending = list(pending)
        mine = [size for other, size in pending if other == owner]
        return StorageUsage(
            self.files + len(mine), self.bytes + sum(mine), self.total_bytes + sum(size for _, size in pending)
        )

    def check(self, limits: StorageLimits, size: int) -> None:
        """Check that one more file of ``size`` bytes fits.

        Raises:
            QuotaExceeded: the owner may not store it.
            StorageFull: all owners together may not.
        """
        if limits.owner_files and self.files >= limits.owner_files:
            raise QuotaExceeded(f"You have {self.files} files, the maximum (max_key_files): delete some of them.")
        check_owner_bytes(self.bytes, size, limits.owner_bytes)
        if limits.total_bytes and self.total_bytes + size > limits.total_bytes:
            raise StorageFull(
                f"The files of all clients take {format_size(limits.total_bytes)}, the maximum (max_stored_bytes): "
                "delete files, or raise it."
            )


def check_owner_bytes(used: int, size: int, max_bytes: int) -> None:
    """Check that an owner who stores ``used`` bytes may store ``size`` more; a maximum of 0 is no limit.

    Raises:
        QuotaExceeded: the owner may not.
    """
    if max_bytes and used + size > max_bytes:
        raise QuotaExceeded(
            f"Your files take {format_bytes(used, max_bytes)}, those in collections included, and "
            f"{format_bytes(size, max_bytes)} more would be more than {format_bytes(max_bytes, max_bytes)} "
            "(max_key_stored_bytes): delete some of them."
        )
