"""A release comes to a node: its manifest from the bus, judged, and its files from their source.

    manifest of the bus -> is it the one that was asked for? is it signed? -> files (fetching.py) -> a release folder

**What is judged is not trusted before.** A manifest that has another digest, site, sequence or tree than what is
desired says, or no signature of a known key, is refused for good: it would be the same when it is asked for again. What
is away is asked for again by the machine.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from zcserve.config.units import counted, size_text
from zcserve.errors import UsageError, ZcserveError, reason_of
from zcserve.fleet.background import in_thread
from zcserve.fleet.bus import BusError
from zcserve.fleet.fetching import PARALLEL, Fetch, FetchError, Progress
from zcserve.fleet.folders import FolderError, Folders
from zcserve.fleet.kept_listing import Listings
from zcserve.fleet.manifest import Manifest, ManifestError
from zcserve.fleet.messages import Release
from zcserve.fleet.pacing import TokenBucket
from zcserve.fleet.receiving import CancelledError, Pace
from zcserve.fleet.signing import Keyring
from zcserve.fleet.sources.choosing import source_of
from zcserve.log import Log

_log = Log(__name__)

# So many retries of one fetch are in the log; the state has the last reason in any case.
RETRIES_TOLD_MAX = 10

ManifestOf = Callable[[str], Awaitable[bytes]]


class ObtainError(ZcserveError):
    """A release did not come; `is_final`: its manifest is at fault, and would be again."""

    def __init__(self, message: str, *, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_final = is_final


class Obtaining:
    """How a node comes by releases of a site.

    keyring   the keys one of which signs each manifest; None: none has to be signed
    source    where files come from; "": each release says so itself
    rate      bytes per second from the source, of all threads; None: as fast as they come
    """

    def __init__(
        self, site: str, folders: Folders, keyring: Keyring | None, source: str = "", rate: float | None = None
    ) -> None:
        self._site = site
        self._folders = folders
        self._keyring = keyring
        self._source = source
        self._rate = rate
        self._listings = Listings()

    async def obtain(self, release: Release, manifest_of: ManifestOf) -> None:
        """Have the folder of a release complete. Given up, it ends within a moment, and what has come stays for the
        next time. Raises ObtainError."""
        pace = Pace(TokenBucket(self._rate) if self._rate else None)
        try:
            manifest = await in_thread(lambda: self._known(release), "manifest")
            if manifest is None:
                data = await manifest_of(release.manifest)
                manifest = await in_thread(lambda: self._judged(release, data), "manifest")
            await in_thread(lambda: self._fetch(release, manifest, pace), "fetch")
        except (BusError, FolderError, CancelledError) as error:
            raise ObtainError(str(error)) from None
        finally:
            pace.cancelled.set()

    def _known(self, release: Release) -> Manifest | None:
        """The manifest that lies beside the folder, if it is the very one."""
        try:
            data = self._folders.manifest(release.tree)
        except OSError:
            return None
        try:
            return self._judged(release, data)
        except ObtainError:
            return None  # of an earlier release of the same files, or signed by a key that is known no more

    def _judged(self, release: Release, data: bytes) -> Manifest:
        """Raises ObtainError."""
        named = f"the manifest of release {release.sequence}"
        try:
            manifest = Manifest.parse(data)
            for name, found, wanted in (
                ("digest", manifest.digest, release.manifest),
                ("site", manifest.site, self._site),
                ("sequence", manifest.sequence, release.sequence),
                ("tree", manifest.tree, release.tree),
            ):
                if found != wanted:
                    raise ObtainError(f"{named} is refused: its {name} is {found}, not {wanted}", is_final=True)
            if self._keyring is not None:
                self._keyring.verify(manifest)
        except ManifestError as error:
            raise ObtainError(f"{named} is refused: {error}", is_final=True) from None
        return manifest

    def _fetch(self, release: Release, manifest: Manifest, pace: Pace) -> None:
        """Raises ObtainError, FolderError, CancelledError."""
        retries = 0

        def tell(progress: Progress) -> None:
            nonlocal retries
            if progress.kind == "retry":
                retries += 1
                if retries <= RETRIES_TOLD_MAX:
                    _log.warning(
                        "a file comes again in %.1f s: %s: %s", progress.wait_s, progress.path, progress.reason
                    )
            elif progress.kind == "waiting":
                _log.info("release %d is being fetched by another process: it is waited for", release.sequence)

        address = self._source or release.source
        if not address and not self._folders.holds(release.tree):
            raise ObtainError("nothing says where its files come from; accepted: --source, or a release that names it")
        try:
            source = source_of(address or self._folders.path, parallel=PARALLEL)
            try:
                done = Fetch(
                    manifest, source, self._folders, read=self._listings.read, pace=pace, on_progress=tell
                ).run()
                self._listings.came(manifest)
            except FetchError as error:
                raise ObtainError(f"release {release.sequence} is not fetched from {source.name}: {error}") from None
            finally:
                source.close()
        except UsageError as error:
            raise ObtainError(f"release {release.sequence} is not fetched: {error}") from None
        except OSError as error:
            raise ObtainError(f"release {release.sequence} is not fetched: {reason_of(error)}") from None
        files, size, moved = counted(done.files, "file"), size_text(done.size), size_text(done.moved)
        _log.info("release %d is fetched: %s, %s, %s moved", release.sequence, files, size, moved)
