"""Pictures of a study, read ahead of the page and kept for a while."""

import threading
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

from fer_pipeline.core.study import Study, picture

_KEPT = 128
"""Pictures kept: of about 100 KB each."""
_READERS = 2

_Key = tuple[str, str, int, bool]


class Pictures:
    """Encoded pictures of any number of studies; safe to be shared by threads."""

    def __init__(self, kept: int = _KEPT) -> None:
        """Keep at most `kept` pictures."""
        self._kept = kept
        self._lock = threading.Lock()
        self._known: OrderedDict[_Key, Future[bytes]] = OrderedDict()
        self._readers = ThreadPoolExecutor(_READERS, thread_name_prefix="pictures")

    def get(self, study: Study, item: int, *, whole: bool) -> bytes:
        """The JPEG of an item: the whole photo, or the crop of the face.

        Raises what reading raises (InputError for a damaged study); the next call tries again.
        """
        key = (str(study.path), study.sample, item, whole)
        try:
            return self._read(study, key).result()
        except BaseException:
            with self._lock:
                self._known.pop(key, None)
            raise

    def prepare(self, study: Study, items: Iterable[int], *, whole: bool) -> None:
        """Begin to read these items, in order, without waiting for them."""
        for item in items:
            self._read(study, (str(study.path), study.sample, item, whole))

    def _read(self, study: Study, key: _Key) -> Future[bytes]:
        *_, item, whole = key
        with self._lock:
            found = self._known.get(key)
            if found is None:
                found = self._readers.submit(picture, study.path, item, whole=whole)
                self._known[key] = found
            self._known.move_to_end(key)
            while len(self._known) > self._kept:
                self._known.popitem(last=False)
            return found
