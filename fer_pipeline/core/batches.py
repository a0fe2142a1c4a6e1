"""Batches for training and scoring: order, sampling, label smoothing, weights.

A bounded part of the crops is in memory at a time, whatever the size of the data. Which
examples belong to a split is decided in `examples.py`, how crops are changed in
`augmentation.py`.
"""

import threading
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_pipeline.core.augmentation import augment, mixup
from fer_pipeline.core.examples import Examples, load_images
from fer_pipeline.core.presets import Augmentation, ClassWeighting, Recipe, Sampling

POOL_BYTES = 256 * 2**20
"""Bytes of crops that a `CropBatches` holds in memory at most (or two crops, if larger)."""

Batch = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]

_STRENGTH: dict[ClassWeighting, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "none": np.ones_like,
    "sqrt": lambda share: share**-0.5,
    "inverse": lambda share: share**-1.0,
}


def class_weights(examples: Examples, weighting: ClassWeighting) -> NDArray[np.float64]:
    """(K,) weight of each class: 1, or the inverse (root) of its share of the weighted targets.

    Scaled so that the mean over the examples, each with the weight of its row, is 1. A class
    without examples has weight 0.
    """
    rows = examples.weight.astype(np.float64)
    total = rows @ examples.target
    present = total > 0
    weights = np.zeros(len(total))
    weights[present] = _STRENGTH[weighting](total[present] / total.sum())
    return weights * len(examples) / (weights @ total)


def example_weights(examples: Examples, weighting: ClassWeighting) -> NDArray[np.float32]:
    """(n,) weight of the row times the weight of its class (of its target's mix); mean 1."""
    weights = examples.weight * (examples.target @ class_weights(examples, weighting))
    return np.asarray(weights / weights.mean(), np.float32)


def draws(examples: Examples, sampling: Sampling) -> NDArray[np.float64]:
    """(n,) how often an epoch draws each example on average; the sum is n.

    "natural" draws each once, "balanced" each class (the example's `expression`) equally often.
    """
    if sampling == "natural":
        return np.ones(len(examples))
    counts = np.bincount(examples.expression, minlength=examples.target.shape[1])
    share = len(examples) / np.count_nonzero(counts)
    return share / counts[examples.expression]


def training_prior(examples: Examples, recipe: Recipe) -> tuple[float, ...]:
    """The K class shares that training by `recipe` effectively sees: drawn and weighted; sum 1."""
    seen = draws(examples, recipe.sampling) * example_weights(examples, recipe.class_weighting)
    shares = seen @ examples.target
    return tuple(float(share) for share in shares / shares.sum())


class _CropPool:
    """The crops of some examples, in memory; `members` are their positions in rising order."""

    def __init__(self, examples: Examples, members: NDArray[np.intp]) -> None:
        self.members = members
        self._crops = load_images(examples, members)

    def take(self, indices: NDArray[np.intp]) -> NDArray[np.uint8]:
        return self._crops[np.searchsorted(self.members, indices)]


ORDER = 2
"""Raised when the same seed deals the examples of large data in another order."""


class _EpochPlan:
    """The order of one epoch: pools of examples, one after another, and rows shuffled in each.

    Data that fit into `pool_bytes` are one pool. Larger data are read by row groups in the order of
    `_spread`, which is cut into pools of equal numbers of crops. `wanted` (n,) is how often each
    example comes on average; None for each once.
    """

    def __init__(
        self,
        examples: Examples,
        pool_bytes: int,
        rng: np.random.Generator | None,
        wanted: NDArray[np.float64] | None = None,
    ):
        crop_bytes = int(np.prod(examples.image_shape))
        everything = np.arange(len(examples))
        fits = len(examples) * crop_bytes <= pool_bytes
        if fits and rng is not None:
            # Its result isn't used: it keeps the order that a seed gave when shards were shuffled.
            rng.shuffle(np.unique(examples.shard_index))
        times = None if wanted is None or rng is None else _whole_draws(examples, wanted, rng)
        self.pools = [everything]
        if not fits:
            held = everything if times is None else np.flatnonzero(times)
            sequence = held if rng is None else _spread(examples, held, rng, wanted)
            # A batch can span two pools, so that both must fit together.
            most = max(1, pool_bytes // 2 // crop_bytes)
            parts = np.array_split(sequence, -(-len(sequence) // most))
            self.pools = [np.sort(part) for part in parts]
        orders = []
        for members in self.pools:
            order = members.copy() if times is None else np.repeat(members, times[members])
            if rng is not None:
                rng.shuffle(order)
            orders.append(order)
        self.order = np.concatenate(orders)
        self.ends = np.cumsum([len(order) for order in orders])


def _spread(
    examples: Examples,
    held: NDArray[np.intp],
    rng: np.random.Generator,
    wanted: NDArray[np.float64] | None,
) -> NDArray[np.intp]:
    """The examples `held`, row group by row group, so that every stretch has classes in proportion.

    Groups are shuffled among those of the same class, the one that most of their draws are of, and
    the classes are merged, each evenly spread. Rows of a group stay near one another: a pool that
    is cut from this order reads few groups.
    """
    names, group = np.unique(examples.row_group(), return_inverse=True)
    shape = len(names), examples.target.shape[1]
    cell = group * shape[1] + examples.expression
    draws_of = np.bincount(cell, weights=wanted, minlength=shape[0] * shape[1]).reshape(shape)
    kind = draws_of.argmax(axis=1)[group[held]]
    turn = rng.permutation(len(names))[group[held]]
    by_kind = np.lexsort((turn, kind))
    sizes = np.bincount(kind, minlength=shape[1])
    place = np.concatenate([(np.arange(size) + rng.random()) / max(1, size) for size in sizes])
    return held[by_kind[np.argsort(place, kind="stable")]]


def _whole_draws(
    examples: Examples, wanted: NDArray[np.float64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """(n,) whole numbers of draws, on average `wanted`: systematic sampling, class by class.

    The sum is n, and each class comes as often as wanted to within one draw.
    """
    # Shuffled within the class: otherwise neighbours would never be drawn together.
    by_class = np.lexsort((rng.random(len(examples)), examples.expression))
    upto = np.floor(np.cumsum(wanted[by_class]) + rng.random())
    times = np.diff(upto, prepend=0.0).astype(np.int64)
    # Rounding in the sum can cost or add the last draw.
    times[-1] += len(examples) - times.sum()
    placed = np.empty_like(times)
    placed[by_class] = times
    return placed


class _Source:
    """Batches by number: a pure function of seed, epoch and number, safe for threads."""

    def __init__(
        self,
        examples: Examples,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        augmentation: Augmentation | None,
        label_smoothing: float,
        class_weighting: ClassWeighting,
        sampling: Sampling,
        mixup_alpha: float,
        pool_bytes: int,
    ) -> None:
        self._examples = examples
        self._seed = seed
        self._shuffle = shuffle
        self._augmentation = augmentation
        self._mixup = mixup_alpha
        self._wanted = None if sampling == "natural" else draws(examples, sampling)
        self._pool_bytes = pool_bytes
        classes = examples.target.shape[1]
        self._target = examples.target * np.float32(1 - label_smoothing) + np.float32(
            label_smoothing / classes
        )
        self._weight = example_weights(examples, class_weighting)
        # Equal batches: a small last batch would give batch normalisation poor statistics.
        count = -(-len(examples) // batch_size)
        self.bounds = np.linspace(0, len(examples), count + 1).round().astype(int)
        self._lock = threading.Lock()
        self._loaded: list[_CropPool] = []
        self.start_epoch(0)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def start_epoch(self, epoch: int) -> None:
        with self._lock:
            self.epoch = epoch
            # Pools of another epoch hold other crops, unless there is one for all.
            everything = len(self._examples)
            self._loaded = [pool for pool in self._loaded if len(pool.members) == everything]
            rng = np.random.default_rng([self._seed, epoch]) if self._shuffle else None
            self._plan = _EpochPlan(self._examples, self._pool_bytes, rng, self._wanted)

    def indices(self, number: int) -> NDArray[np.intp]:
        return self._plan.order[self.bounds[number] : self.bounds[number + 1]]

    def batch(self, number: int) -> Batch:
        with self._lock:
            epoch, chosen = self.epoch, self.indices(number)
            images = self._crops(number, chosen)
        rng = np.random.default_rng([self._seed, epoch, number])
        if self._augmentation is None:
            pixels = images.astype(np.float32)
        else:
            pixels = augment(images, self._augmentation, rng)
        target, weight = self._target[chosen], self._weight[chosen]
        if self._mixup:
            return mixup(pixels, target, weight, self._mixup, rng)
        return pixels, target, weight

    def _crops(self, number: int, chosen: NDArray[np.intp]) -> NDArray[np.uint8]:
        span = np.arange(self.bounds[number], self.bounds[number + 1])
        pool_of = np.searchsorted(self._plan.ends, span, side="right")
        images = np.empty((len(chosen), *self._examples.image_shape), np.uint8)
        for pool in np.unique(pool_of):
            here = pool_of == pool
            images[here] = self._pool(self._plan.pools[pool]).take(chosen[here])
        return images

    def _pool(self, members: NDArray[np.intp]) -> _CropPool:
        for pool in self._loaded:
            if np.array_equal(pool.members, members):
                return pool
        # Forget the older pool before reading, so that at most two are ever in memory.
        self._loaded = self._loaded[-1:]
        self._loaded.append(_CropPool(self._examples, members))
        return self._loaded[-1]


def crop_batches(
    examples: Examples,
    batch_size: int,
    *,
    seed: int = 0,
    shuffle: bool = False,
    augmentation: Augmentation | None = None,
    label_smoothing: float = 0.0,
    class_weighting: ClassWeighting = "none",
    sampling: Sampling = "natural",
    mixup_alpha: float = 0.0,
    pool_bytes: int = POOL_BYTES,
) -> Any:
    """A `keras.utils.PyDataset` over `examples`, each once an epoch (or as `draws` says).

    Item i is (images float32 (b, h, w, c) in 0..255, targets float32 (b, K), weights float32
    (b,)) with b at most `batch_size` and batches equal to within one example. It depends on
    seed, epoch and i alone, whatever the threads. `shuffle` mixes everything where it fits into
    `pool_bytes` bytes. Larger data are read in pools of half of that, each of row groups of every
    class, however the data are sorted, and rows are mixed within a pool. Without `shuffle` the
    order is that of `examples`. Sampling other than "natural" needs `shuffle`. `on_epoch_end` moves
    to the next epoch, `start_epoch(e)` to epoch e (from 0); `indices(i)` names the examples of
    batch i.
    """
    if sampling != "natural" and not shuffle:
        raise ValueError(f"sampling {sampling!r} is drawn anew for each epoch: it needs shuffle")
    source = _Source(
        examples,
        batch_size,
        seed=seed,
        shuffle=shuffle,
        augmentation=augmentation,
        label_smoothing=label_smoothing,
        class_weighting=class_weighting,
        sampling=sampling,
        mixup_alpha=mixup_alpha,
        pool_bytes=pool_bytes,
    )
    return _dataset_class()(source)


@cache
def _dataset_class() -> Any:
    """The Keras data set class, defined at first use because importing Keras takes seconds."""
    import keras

    class CropBatches(keras.utils.PyDataset):  # type: ignore[misc]
        def __init__(self, source: _Source) -> None:
            super().__init__()
            self._source = source

        def __len__(self) -> int:
            return len(self._source)

        def __getitem__(self, number: int) -> Batch:
            return self._source.batch(number)

        def indices(self, number: int) -> NDArray[np.intp]:
            return self._source.indices(number)

        def on_epoch_end(self) -> None:
            self._source.start_epoch(self._source.epoch + 1)

        def start_epoch(self, epoch: int) -> None:
            self._source.start_epoch(epoch)

    return CropBatches
