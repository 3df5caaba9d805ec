"""Data of which some images have no label: where it comes from, what is drawn of it, and what never sees hidden labels."""

from __future__ import annotations

import pathlib

import numpy as np
import pytest
from PIL import Image

import genlab
from genlab.data import DataOptions, load
from genlab.data import __main__ as command

UNLABELLED = -1


def written(folder: pathlib.Path, names: list[str]) -> pathlib.Path:
    """Small grey images, each of another shade."""
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), 5 * index).save(path)
    return folder


def taken(stream, count):
    return [tuple(part.numpy() for part in batch) for batch in stream.take(count)]


def known(dataset):
    return dataset.parts()["train"][1]


# -- --labelled --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "largest"), [(10, 1), (100, 10), (105, 11)])
def test_as_many_labels_of_each_class_are_kept(count, largest):
    whole = load("digits")
    found = load("digits", options=DataOptions(labelled=count))
    labels = known(found)
    kept = labels != UNLABELLED
    np.testing.assert_array_equal(labels[kept], whole.labels[kept])
    counts = np.bincount(labels[kept], minlength=10)
    assert counts.sum() == count and set(counts) <= {largest - 1 if count == 105 else largest, largest}
    np.testing.assert_array_equal(found.images, whole.images)
    np.testing.assert_array_equal(found.test_labels, whole.test_labels)
    assert found.labels is None and found.spec.partly_labelled and found.spec.num_classes == 10
    assert found.facts()["labelled_images"] == count and found.sha256 != whole.sha256


def test_small_classes_give_all_they_have():
    images, labels = np.zeros((30, 8, 8), np.uint8), np.array([0] * 2 + [1] * 8 + [2] * 20)
    found = load(images, labels, DataOptions(labelled=14))
    assert np.bincount(known(found)[known(found) >= 0]).tolist() == [2, 6, 6]


def test_seeds_draw_other_labels_and_more_labels_contain_fewer():
    few, same, other, many = (
        known(load("digits", options=DataOptions(labelled=count, labelled_seed=seed))) != UNLABELLED
        for count, seed in ((50, 1), (50, 1), (50, 2), (200, 1))
    )
    np.testing.assert_array_equal(few, same)
    assert (few != other).any() and many[few].all()


def test_limit_split_and_classes_go_with_it():
    found = load("digits", options=DataOptions(labelled=20, classes="3,7", limit=100))
    assert len(found.images) == 100 and np.bincount(known(found)[known(found) >= 0]).tolist() == [10, 10]
    images, labels = np.arange(40, dtype=np.uint8)[:, None, None] + np.zeros((1, 8, 8), np.uint8), np.arange(40) % 4
    labels = np.where(np.arange(40) < 20, labels, UNLABELLED)
    parts = load(images, labels, DataOptions(split="0.6/0.4")).parts()
    for count, (part, of_part) in zip((24, 16), parts.values(), strict=True):
        assert len(part) == count and abs((of_part != UNLABELLED).sum() - count / 2) <= 1
        np.testing.assert_array_equal(of_part, labels[part[:, 0, 0, 0]])
    two = load(images, labels, DataOptions(classes="1,3"))  # nobody knows the class of the others
    assert np.bincount(known(two) + 1).tolist() == [20, 5, 5] and two.class_names == ("1", "3")


@pytest.mark.parametrize(
    ("labelled", "words"),
    [(9, "from 10, one for each class, to 1,436"), (1437, "at least one must be left without"), (9999, "to 1,436")],
)
def test_numbers_of_labels_that_do_not_fit(labelled, words):
    with pytest.raises(genlab.UsageError, match=words):
        load("digits", options=DataOptions(labelled=labelled))


def test_options_that_need_every_label_say_so(small_images):
    with pytest.raises(genlab.UsageError, match="has no labels"):
        load(small_images[0], options=DataOptions(labelled=10))
    with pytest.raises(genlab.UsageError, match="needs labels, and some images of digits has none"):
        load("digits", options=DataOptions(labelled=50, balance="weight"))
    with pytest.raises(ValueError, match="labelled is 0; it must be above 0"):
        DataOptions(labelled=0)


# -- streams -----------------------------------------------------------------------------------------------------------


def test_hidden_labels_are_in_no_batch():
    found = load("digits", options=DataOptions(labelled=20))
    images, labels = zip(*taken(found.stream(100, seed=3), 15), strict=True)
    assert not np.concatenate(labels).any()  # zeros, as without labels
    assert len(np.unique(np.concatenate(images)[:1437].reshape(1437, -1), axis=0)) > 1400
    alone = found.labelled_part()
    assert len(alone.images) == 20 and alone.labels is not None and not alone.partial_labels


def test_labelled_batches_hold_labelled_images_in_an_order_of_their_own():
    found = load("digits", options=DataOptions(labelled=20))
    pairs = {image.tobytes(): label for image, label in zip(*found.labelled_part().examples(20), strict=True)}
    (images, labels), *_ = taken(found.labelled_stream(40, seed=3), 1)  # two epochs
    assert [pairs[image.tobytes()] for image in images] == labels.tolist()
    assert len({image.tobytes() for image in images[:20]}) == 20
    with pytest.raises(genlab.UsageError, match="no training image has a label"):
        load(np.zeros((9, 8, 8), np.uint8)).labelled_stream(4, seed=0)


@pytest.mark.parametrize("start", [0, 1, 7])
def test_batches_of_steps_start_anywhere(start):
    found = load("digits", options=DataOptions(labelled=20))
    whole = taken(found.step_stream(16, 5, (2, 1)), 30)
    rest = taken(found.step_stream(16, 5, (2, 1), start), 30 - 3 * start)
    for first, second in zip(whole[3 * start :], rest, strict=True):
        np.testing.assert_array_equal(first[0], second[0])
        np.testing.assert_array_equal(first[1], second[1])
    assert all(not labels.any() for _, labels in whole[0::3] + whole[1::3])
    assert any(labels.any() for _, labels in whole[2::3])


# -- sources -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["unlabelled", "unlabeled"])
def test_a_folder_of_unlabelled_images_beside_classes(tmp_path, name):
    folder = written(
        tmp_path / "photos", ["cat/a.png", "cat/b.png", "dog/c.png", *(f"{name}/{i}.png" for i in range(6))]
    )
    found = load(folder)
    assert found.class_names == ("cat", "dog") and sorted(known(found).tolist()) == [-1] * 6 + [0, 0, 1]
    shades = {int(image[0, 0, 0]): label for image, label in zip(found.images, known(found), strict=True)}
    assert (shades[0], shades[10], shades[15]) == (0, 1, -1)
    assert load(written(tmp_path / "alone", [f"{name}/{i}.png" for i in range(3)])).class_names == ()


@pytest.mark.parametrize("place", ["train/unlabelled", "unlabelled"])
def test_unlabelled_images_beside_or_in_the_training_folder(tmp_path, place):
    names = [
        "train/cat/a.png",
        "train/dog/b.png",
        f"{place}/c.png",
        f"{place}/d.png",
        "test/cat/e.png",
        "test/dog/f.png",
    ]
    found = load(written(tmp_path, names))
    assert known(found).tolist().count(UNLABELLED) == 2 and found.test_labels.tolist() == [0, 1]
    assert sorted(found.images[:, 0, 0, 0].tolist()) == [0, 5, 10, 15]


def test_a_table_of_files_and_labels(tmp_path):
    written(tmp_path, ["a.png", "b.png", "more/c.png", "more/d.png"])
    path = tmp_path / "labels.csv"
    path.write_text("file,label\nmore/c.png,dog\na.png, cat\nb.png,\nmore/d.png,dog\n")
    found = load(path)
    assert found.class_names == ("cat", "dog") and known(found).tolist() == [1, 0, -1, 1]
    assert found.images[:, 0, 0, 0].tolist() == [10, 0, 5, 15] and found.name == tmp_path.name
    path.write_text("label,file,split\n10,a.png,train\n9,b.png,train\n,more/c.png,train\n10,more/d.png,test\n")
    found = load(path)
    assert (
        found.class_names == ("9", "10") and known(found).tolist() == [1, 0, -1] and found.test_labels.tolist() == [1]
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "its first line must name the columns file and label"),
        ("name,class\na.png,cat\n", "the columns name, class"),
        ("file,label\na.png\n", "line 2: it must have 2 values"),
        ("file,label\na.png,cat,dog\n", "line 2: it must have 2 values"),
        ("file,label\nz.png,cat\n", "line 2: there is no file"),
        ("file,label\n../a.png,cat\n", "or below it"),
        ("file,label\n/etc/passwd,cat\n", "or below it"),
        ("file,label\na.png,cat\na.png,dog\n", "line 3: a.png was named before"),
        ("file,label,split\na.png,cat,all\n", "the split is all"),
        ("file,label,split\na.png,cat,test\n", "names no images for training"),
        ('file,label\n"a.png,cat\n', "cannot be read as a table"),
        (b"file,label\n\xff\xfe,cat\n", "cannot be read as a table"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, words):
    written(tmp_path, ["a.png"])
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(genlab.UsageError, match=words):
        load(path)


def test_arrays_with_missing_labels(small_images):
    images, labels = small_images
    for given in (np.where(np.arange(40) < 5, labels, -1), np.where(np.arange(40) < 5, labels.astype(str), "")):
        found = load(images, given)
        assert known(found)[:5].tolist() == labels[:5].tolist() and set(known(found)[5:]) == {UNLABELLED}
    assert load(images, np.full(40, -1)).spec.num_classes == 0
    with pytest.raises(genlab.UsageError, match="one is -2"):
        load(images, labels - 2)


def test_shards_keep_which_images_have_a_label(tmp_path, capsys):
    folder = written(tmp_path / "photos", ["cat/a.png", "dog/b.png", *(f"unlabelled/{i}.png" for i in range(5))])
    command.main(["inspect", str(folder), "--preview", ""])
    shown = capsys.readouterr().out
    assert "7 images, 2 of them labelled" in shown and "cat: 1, dog: 1; 5 without a label" in shown
    command.main(["shard", str(folder), str(tmp_path / "shards")])
    found = load(tmp_path / "shards")
    np.testing.assert_array_equal(known(found), known(load(folder)))
    np.testing.assert_array_equal(found.images, load(folder).images)
