"""Perceptual hashes: copies are near, other pictures are not; groups, vectors and videos."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from nearfield.errors import InputError
from nearfield.media.copies import hash_index
from nearfield.media.copies.grouping import CopyMatches, group_copies
from nearfield.media.copies.hash_index import LARGEST_DISTANCE, MAX_DISTANCE, PictureHashIndex
from nearfield.media.copies.picture_hash import MIN_SIDE, PictureHash, hash_picture
from nearfield.media.copies.vector_index import CopyVectorIndex
from nearfield.media.copies.video_hash import FRAMES, VideoHash, VideoHashIndex
from nearfield.media.decoding import decode_file
from nearfield.media.limits import DEFAULT_PICTURE_LIMITS
from tests.support.picture_copies import COPIES, saved, scene

pytest.importorskip("imagehash")
SEEDS = range(6)


def hash_of(data: bytes) -> PictureHash:
    return hash_picture(decode_file(data, DEFAULT_PICTURE_LIMITS, "The picture", MIN_SIDE))


@pytest.fixture(scope="module")
def originals() -> list[PictureHash]:
    return [hash_of(saved(scene(seed), "PNG")) for seed in SEEDS]


@pytest.fixture
def index(originals: list[PictureHash]) -> PictureHashIndex:
    index = PictureHashIndex()
    for value in originals:
        index.add(value)
    return index


@pytest.mark.parametrize("name", COPIES)
def test_a_copy_is_near_its_original_alone(index: PictureHashIndex, name: str) -> None:
    for seed in SEEDS:
        match = index.nearest(hash_of(COPIES[name](scene(seed))))
        assert match is not None and match[0] == seed and match[1] <= MAX_DISTANCE


def test_real_photos_and_their_copies() -> None:
    images = pytest.importorskip("sklearn.datasets").load_sample_images().images
    index = PictureHashIndex()
    photos = [Image.fromarray(pixels) for pixels in images]
    photos += [photo.crop((0, 0, 320, 427)) for photo in photos]
    for photo in photos:
        index.add(hash_of(saved(photo, "PNG")))
    for number, photo in enumerate(photos):
        for name, save in COPIES.items():
            match = index.nearest(hash_of(save(photo)))
            assert match is not None and match[0] == number, name
    numbers = np.arange(len(photos))
    assert not sum(len(matches.rows) for matches in index.search(numbers, numbers))


def test_photos_of_scikit_image_are_no_copies_of_each_other() -> None:
    data = pytest.importorskip("skimage.data", reason="needs scikit-image")
    names = ("astronaut", "camera", "coffee", "chelsea", "brick", "grass", "gravel", "coins", "moon", "page", "text")
    index = PictureHashIndex(2 * MAX_DISTANCE)
    photos = [Image.fromarray(getattr(data, name)()).convert("RGB") for name in names]
    for photo in photos:
        index.add(hash_of(saved(photo, "PNG")))
    numbers = np.arange(len(photos))
    assert not sum(len(matches.rows) for matches in index.search(numbers, numbers))
    for number, photo in enumerate(photos):
        match = index.nearest(hash_of(COPIES["crop 5% at a corner, half, JPEG 50"](photo)))
        assert match is not None and match[0] == number


def test_other_pictures_are_no_copies(index: PictureHashIndex) -> None:
    assert all(index.nearest(hash_of(saved(scene(seed)))) is None for seed in range(100, 120))


def test_colours_count_and_grey_matches_every_colour(index: PictureHashIndex) -> None:
    hue, saturation, value = scene(0).convert("HSV").split()
    turned = Image.merge("HSV", (hue.point(lambda tone: (tone + 90) % 256), saturation, value)).convert("RGB")
    grey = scene(0).convert("L")
    # The same brightness, and so the same hash, in other colours.
    recoloured = Image.merge("YCbCr", (grey, *turned.convert("YCbCr").split()[1:])).convert("RGB")
    assert index.nearest(hash_of(saved(recoloured, "PNG"))) is None
    match = index.nearest(hash_of(saved(grey, "PNG")))
    assert match is not None and match[0] == 0


@pytest.mark.parametrize("colour", ["white", "black", (200, 30, 30)])
def test_blank_pictures_have_no_copies(colour: str | tuple[int, int, int]) -> None:
    index = PictureHashIndex(LARGEST_DISTANCE)
    value = hash_of(saved(Image.new("RGB", (300, 200), colour)))
    index.add(value)
    assert value.is_flat and index.nearest(value) is None


def test_a_hash_is_the_same_for_pixels_files_and_reduced_decoding() -> None:
    image = scene(3, 1920, 1440)
    data = saved(image, quality=90)
    whole = decode_file(data, DEFAULT_PICTURE_LIMITS, "The picture")
    reduced = decode_file(data, DEFAULT_PICTURE_LIMITS, "The picture", MIN_SIDE)
    assert (reduced.width, reduced.height) == (480, 360) and reduced.header == whole.header
    index = PictureHashIndex()
    index.add(hash_picture(whole))
    match = index.nearest(hash_picture(reduced))
    assert match is not None and match[1] <= 8


def test_bytes_of_a_hash(originals: list[PictureHash]) -> None:
    data = originals[1].to_bytes()
    again = PictureHash.from_bytes(data)
    np.testing.assert_array_equal(again.words, originals[1].words)
    np.testing.assert_array_equal(again.colours, originals[1].colours)
    assert not again.is_flat and again.to_bytes() == data
    with pytest.raises(InputError, match="bytes, not 3"):
        PictureHash.from_bytes(b"123")


def test_pictures_that_are_removed_are_not_found(index: PictureHashIndex, originals: list[PictureHash]) -> None:
    index.remove(2)
    assert index.nearest(originals[2]) is None and index.nearest(originals[3]) == (3, 0)


def test_blocks_and_growth_change_no_result(monkeypatch: pytest.MonkeyPatch, originals: list[PictureHash]) -> None:
    random = np.random.default_rng(1)
    values = [
        PictureHash(value.words ^ np.uint64(1 << int(random.integers(64))), value.colours, False)
        for value in originals * 3
    ]

    def pairs() -> set[tuple[int, int, int]]:
        index = PictureHashIndex(24)
        for value in values:
            index.add(value)
        numbers = np.arange(len(index))
        columns = [(part.rows, part.numbers, part.values) for part in index.search(numbers, numbers[::-1])]
        return {tuple(map(int, row)) for column in columns for row in zip(*column, strict=True)}  # type: ignore[misc]

    expected = pairs()
    assert len(expected) == len(values) * 2
    for name, size in (("_BLOCK", 7), ("_ROWS", 3), ("_COLOUR_BLOCK", 2), ("_FIRST_SIZE", 1)):
        monkeypatch.setattr(hash_index, name, size)
    assert pairs() == expected
    if hasattr(np, "bitwise_count"):
        monkeypatch.delattr(np, "bitwise_count")
        assert pairs() == expected


@pytest.mark.parametrize("distance", [-1, 97, 2.5, True])
def test_wrong_distances(distance: object) -> None:
    with pytest.raises(InputError, match="max_distance must be"):
        PictureHashIndex(distance)  # type: ignore[arg-type]


# -- groups ------------------------------------------------------------------------------------------------------------


class Line:
    """Items on a line, of which neighbours are near."""

    def __init__(self, places: list[float], reach: float) -> None:
        self.places, self.reach = np.array(places), reach

    def search(self, numbers: np.ndarray, others: np.ndarray) -> Iterator[CopyMatches]:
        distances = np.abs(self.places[numbers][:, None] - self.places[others][None])
        rows, columns = np.nonzero((distances <= self.reach) & (numbers[:, None] != others[None]))
        yield CopyMatches(rows, others[columns], distances[rows, columns])


def test_a_copy_is_near_its_original_itself() -> None:
    links = group_copies(np.array([0, 1, 2, 3]), {"near": Line([0, 1, 2, 3], 1)})
    assert {number: link.original for number, link in links.items()} == {1: 0, 3: 2}
    links = group_copies(np.array([1, 0, 2, 3]), {"near": Line([0, 1, 2, 3], 1)})
    assert {number: link.original for number, link in links.items()} == {0: 1, 2: 1}


def test_no_original_is_a_copy_whatever_the_measures() -> None:
    random = np.random.default_rng(5)
    for _ in range(20):
        lines = {name: Line(random.uniform(0, 40, 150).tolist(), 1) for name in ("near", "vectors")}
        order = random.permutation(150)
        links = group_copies(order, lines)
        assert links and not {link.original for link in links.values()} & set(links)
        rank = {number: place for place, number in enumerate(order.tolist())}
        for number, link in links.items():
            line = lines[link.measure]
            assert abs(line.places[number] - line.places[link.original]) == link.value <= 1
            assert rank[link.original] < rank[number]
        singles = [number for number in order.tolist() if number not in links]
        for first, second in itertools.combinations(singles, 2):
            assert all(abs(line.places[first] - line.places[second]) > 1 for line in lines.values())


def test_nothing_has_no_groups() -> None:
    assert group_copies(np.empty(0, np.int64), {"near": Line([], 1)}) == {}


def test_vectors_by_their_cosine() -> None:
    vectors = np.eye(4, dtype=np.float32)[[0, 0, 1, 2]]
    vectors[3] = 0
    links = group_copies(np.arange(4), {"vectors": CopyVectorIndex(vectors, 0.9)})
    assert {number: (link.original, link.value) for number, link in links.items()} == {1: (0, 1.0)}


# -- videos ------------------------------------------------------------------------------------------------------------


def video(seeds: list[int | None], seconds: float = 10.0) -> VideoHash:
    blank = Image.new("RGB", (64, 64))
    frames = (hash_of(saved(blank if seed is None else scene(seed, 160, 120), "PNG")) for seed in seeds)
    return VideoHash(seconds, tuple(frames))


def originals_of(videos: list[VideoHash]) -> dict[int, int]:
    index = VideoHashIndex()
    for value in videos:
        index.add(value)
    return {number: link.original for number, link in group_copies(np.arange(len(index)), {"near": index}).items()}


def test_videos_agree_in_most_frames_at_the_same_times() -> None:
    frames: list[int | None] = list(range(FRAMES))
    two, three = [*frames[:6], 50, 51], [*frames[:5], 50, 51, 52]
    assert originals_of([video(frames), video(two), video(three)]) == {1: 0}
    assert originals_of([video(frames), video(frames[1:] + frames[:1])]) == {}
    assert originals_of([video(frames, 10.0), video(frames, 10.4), video(frames, 12.0)]) == {1: 0}


def test_blank_frames_do_not_count() -> None:
    black: list[int | None] = [None] * FRAMES
    assert originals_of([video(black), video(black)]) == {}
    fade: list[int | None] = [None, None, 2, 3, 4, 5, 6, 7]
    assert originals_of([video(fade), video(fade), video(black)]) == {1: 0}
    assert originals_of([video([2]), video([2]), video([3])]) == {1: 0}
