"""AffectNet, release of 2021: `{train,val}_set/images/N.jpg`, and NumPy files of one value each.

`annotations/N_exp.npy` is the expression, `N_val.npy` and `N_aro.npy` are valence and arousal,
as numbers or as texts; `N_lnd.npy`, the landmarks, stays where it is.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from fer_pipeline.core.datasets import columns
from fer_pipeline.core.datasets.annotated_folders import AnnotatedFolders, Judged
from fer_pipeline.core.datasets.base import UNKNOWN_LABEL
from fer_pipeline.core.datasets.npy_scalar import npy_scalar
from fer_pipeline.core.datasets.trees import read_small_files
from fer_pipeline.core.labels import AFFECTNET

_KINDS = ("exp", "val", "aro")
_MAX_BYTES = 65_536
"""A file of one value has about 130 bytes."""


class AffectNet2021(AnnotatedFolders):
    """AffectNet's release of 2021 under `root`; a split that isn't there is left out."""

    name = "affectnet-2021"
    layout = "train_set/ and val_set/ with images/ and annotations/N_exp.npy"
    endings = ("_exp.npy", "_val.npy", "_aro.npy", "_lnd.npy")
    remedy = (
        "the folder that holds train_set and val_set, each with images and annotations "
        "(annotations of AffectNet+ are N.json: --dataset affectnet-plus)"
    )

    def read(self, folder: str, stems: Sequence[str], notes: frozenset[str]) -> Judged:
        """One value of each of three files; see `AnnotatedFolders.read`.

        A file that isn't there leaves its value open, one that is damaged refuses the row.
        """
        wanted = [
            (at, kind, file)
            for at, stem in enumerate(stems)
            for kind in _KINDS
            if (file := f"{stem}_{kind}.npy") in notes
        ]
        texts: dict[str, list[str]] = {kind: [""] * len(stems) for kind in _KINDS}
        damaged = np.zeros(len(stems), bool)
        found = read_small_files(
            self.root, (f"{folder}/{file}" for _, _, file in wanted), _MAX_BYTES
        )
        for (at, kind, _), data in zip(wanted, found, strict=True):
            text = npy_scalar(data) if isinstance(data, bytes) else None
            if text is None:
                damaged[at] = True
            else:
                texts[kind][at] = text
        cells = {kind: pa.chunked_array([pa.array(texts[kind], pa.string())]) for kind in _KINDS}
        code = columns.expression_codes(cells["exp"], AFFECTNET)
        valence, valence_refused = columns.numbers(cells["val"])
        arousal, arousal_refused = columns.numbers(cells["aro"])
        return Judged(
            code,
            columns.affect(valence),
            columns.affect(arousal),
            {
                "damaged_annotation": damaged,
                "no_label": columns.missing(cells["exp"]),
                UNKNOWN_LABEL: code < 0,
                "not_a_number": valence_refused | arousal_refused,
            },
            lambda at: ", ".join(f"{kind} {texts[kind][at]!r}" for kind in _KINDS),
        )
