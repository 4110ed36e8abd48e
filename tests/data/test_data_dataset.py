"""Batches for training: their order, their augmentation, and how both come back from a seed."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from kerastl.data import AUGMENTATIONS, Augmenter, RandomAffine, augmentation_layers, make_dataset
from kerastl.data.images.augment import affine_transforms
from kerastl.data.rows import Rows
from tests.tolerances import EXACT

LABELS = np.arange(20) % 4


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (20, 16, 12, 3), np.uint8)


def passes(dataset, n=1):
    """`n` passes as a list of (images, labels)."""
    return [
        tuple(np.concatenate(part) for part in zip(*dataset.as_numpy_iterator(), strict=True))
        for _ in range(n)
    ]


def test_without_a_seed_pictures_come_in_order_as_they_are(images):
    dataset = make_dataset(images, LABELS, batch_size=8)
    assert len(dataset) == 3
    assert dataset.element_spec[0] == tf.TensorSpec((None, 16, 12, 3), tf.float32)
    for pixels, labels in passes(dataset, 2):
        np.testing.assert_allclose(pixels, images, **EXACT)
        np.testing.assert_array_equal(labels, LABELS)


def test_shuffling_keeps_pairs_and_differs_by_pass(images):
    numbered = np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None, None], (20, 2, 2, 3))
    first, second = passes(make_dataset(numbered, np.arange(20), seed=3, batch_size=7), 2)
    for pixels, labels in (first, second):
        np.testing.assert_array_equal(pixels[:, 0, 0, 0], labels)
        assert sorted(labels) == list(range(20))
    assert first[1].tolist() != second[1].tolist() != list(range(20))
    again = passes(make_dataset(numbered, np.arange(20), seed=3, batch_size=5), 2)
    assert [labels.tolist() for _, labels in again] == [first[1].tolist(), second[1].tolist()]
    other = passes(make_dataset(numbered, np.arange(20), seed=4))[0]
    assert other[1].tolist() != first[1].tolist()


def test_arrays_on_disk_give_the_same_batches(images, tmp_path):
    np.save(tmp_path / "pixels.npy", images)
    rows = Rows(np.load(tmp_path / "pixels.npy", mmap_mode="r"), np.arange(19, -1, -1))
    (one,), (two,) = (passes(make_dataset(x, LABELS, seed=1)) for x in (rows, images[::-1]))
    np.testing.assert_allclose(one[0], two[0], **EXACT)


@pytest.mark.parametrize("level", [name for name in AUGMENTATIONS if name != "none"])
def test_levels_repeat_from_the_seed_differ_by_pass_and_keep_the_range(images, level):
    def dataset(seed):
        return make_dataset(images, LABELS, seed=seed, augment=level, batch_size=8, num_classes=4)

    one, (again,) = passes(dataset(5), 2), passes(dataset(5))
    np.testing.assert_allclose(one[0][0], again[0], **EXACT)
    np.testing.assert_allclose(one[0][1], again[1], **EXACT)
    for x, y in one:
        assert x.dtype == np.float32 and x.min() >= 0 and x.max() <= 255
        # Still pictures of that brightness and spread, not squeezed into [0, 1] or grey.
        assert 80 < x.mean() < 175 and x.std() > 25
        np.testing.assert_allclose(y.sum(axis=1), 1, rtol=1e-6)
    assert not np.array_equal(one[0][0], one[1][0])


def test_another_seed_augments_differently():
    same = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), (8, 16, 16, 3))
    one, two = (passes(make_dataset(same, [0] * 8, seed=s, augment="light"))[0] for s in (5, 6))
    assert not np.array_equal(one[0], two[0])


def test_a_pass_is_a_function_of_its_number(images):
    """A run that goes on at epoch 2 sees what the uninterrupted one saw."""
    options = {"augment": "medium", "batch_size": 8}
    whole = passes(make_dataset(images, LABELS, seed=1, **options), 3)
    resumed = make_dataset(images, LABELS, seed=1, **options)
    next(iter(resumed))  # a look inside
    again = [x.numpy() for x, _ in resumed.repeatable.epoch(2)]
    np.testing.assert_allclose(np.concatenate(again), whole[2][0], **EXACT)


def test_batches_of_one_pass_are_augmented_differently():
    same = np.broadcast_to(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), (8, 16, 16, 3))
    (pixels, _), *_ = passes(make_dataset(same, [0] * 8, seed=0, augment="medium", batch_size=2))
    assert len({picture.tobytes() for picture in pixels}) == 8


def test_none_and_no_augmentation_are_the_identity(images):
    plain = passes(make_dataset(images, LABELS, seed=2))[0][0]
    for augment in ("none", [], lambda x, y: (x, y)):
        same = passes(make_dataset(images, LABELS, seed=2, augment=augment))[0][0]
        np.testing.assert_allclose(same, plain, **EXACT)


def test_own_layers_and_callables(images):
    class Halved(keras.layers.Layer):
        def call(self, x):
            return x / 2

    plain = passes(make_dataset(images, LABELS, seed=2))[0]
    augment = [Halved(), lambda x, y: (x * 4, y + 1)]
    pixels, labels = passes(make_dataset(images, LABELS, seed=2, augment=augment))[0]
    np.testing.assert_allclose(pixels, np.minimum(plain[0] * 2, 255), **EXACT)
    np.testing.assert_array_equal(labels, plain[1] + 1)
    nested = keras.Sequential([keras.layers.RandomFlip(), keras.layers.RandomRotation(0.2)])
    one, two = (passes(make_dataset(images, LABELS, seed=2, augment=nested)) for _ in range(2))
    np.testing.assert_allclose(one[0][0], two[0][0], **EXACT)


def test_cutmix_mixes_labels(images):
    augment = keras.layers.CutMix()
    dataset = make_dataset(images, LABELS, seed=0, augment=augment, num_classes=4)
    labels = passes(dataset)[0][1]
    assert ((labels > 0).sum(axis=1) > 1).any()
    np.testing.assert_allclose(labels.sum(axis=1), 1, rtol=1e-6)


def test_half_precision_policy_leaves_pixels_in_float32(images):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        for augment in ("strong", keras.layers.RandomFlip(), RandomAffine(zoom=0.1)):
            options = {"seed": 0, "augment": augment, "num_classes": 4}
            pixels, labels = next(iter(make_dataset(images, LABELS, **options)))
            assert pixels.dtype == labels.dtype == tf.float32
            assert np.isfinite(pixels).all()
    finally:
        keras.mixed_precision.set_global_policy("float32")


def test_fit_is_the_same_in_two_runs(images):
    def losses():
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.layers.Flatten(), keras.layers.Dense(4)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.SGD(1e-6), loss)
        dataset = make_dataset(images, LABELS, seed=7, augment="light", batch_size=8)
        return model.fit(dataset, epochs=2, verbose=0, shuffle=False).history["loss"]

    assert losses() == losses()


def test_no_thread_of_the_tuner_is_waited_for(images):
    data = make_dataset(images, LABELS, batch_size=2, seed=0, augment="light")
    passes = data.repeatable
    for dataset in (data, data.map(lambda x, y: x), passes.epoch(1), passes.in_order()):
        assert dataset.options().autotune.enabled is False


def test_wrong_arguments_are_refused(images):
    with pytest.raises(ValueError, match=r"one length.*len\(labels\)=3"):
        make_dataset(images, [1, 2, 3])
    with pytest.raises(ValueError, match="is for training and needs `seed`"):
        make_dataset(images, LABELS, augment="light")
    with pytest.raises(ValueError, match="must be one-hot: give `num_classes`"):
        make_dataset(images, LABELS, augment="strong", seed=1)
    with pytest.raises(ValueError, match=r"one of none, light, medium, strong.*'mild'"):
        make_dataset(images, LABELS, augment="mild", seed=1)
    for seed in (True, -1, 0.5):
        with pytest.raises(ValueError, match="`seed` must be an int"):
            make_dataset(images, LABELS, seed=seed)


def moved(images, *, sign=1.0, angle=0.0, scale=1.0, shift=(0.0, 0.0)):
    one = [np.array([v], np.float32) for v in (sign, angle, scale)]
    shifts = tuple(np.array([v], np.float32) for v in shift)
    transforms = affine_transforms(images.shape[1:3], *one, shifts)
    out = keras.ops.image.affine_transform(
        images, transforms, "bilinear", "reflect", data_format="channels_last"
    )
    return np.asarray(out)


def targets_of(labels, num_classes=None):
    pixels = np.zeros((4, 2, 2, 3), np.uint8)
    return next(iter(make_dataset(pixels, labels, num_classes=num_classes)))[1].numpy()


ONE_HOT = np.eye(4)[[0, 1, 2, 2], :3]


@pytest.mark.parametrize(
    "labels",
    [
        [0, 1, 2, 2],
        [0.0, 1.0, 2.0, 2.0],
        np.array([0, 1, 2, 2], "uint8"),
        np.array([0, 1, 2, 2], object),
        [[0], [1], [2], [2]],
        ONE_HOT,
        ONE_HOT.astype(int),
    ],
)
def test_labels_are_class_indices_or_rows_of_targets(labels):
    given = targets_of(labels, 3)
    np.testing.assert_array_equal(given, ONE_HOT)
    assert given.dtype == np.float32


@pytest.mark.parametrize("soft", [ONE_HOT * 0.5, [[0.1, 0.9], [1, 0], [0.5, 0.5], [0, 1]]])
def test_rows_of_targets_are_given_as_they_are(soft):
    np.testing.assert_array_equal(targets_of(soft, np.shape(soft)[1]), np.float32(soft))


def test_without_classes_floats_are_numbers_to_be_learnt():
    np.testing.assert_array_equal(targets_of([-1.0, 0.5, 3, 1]), np.float32([-1, 0.5, 3, 1]))
    assert targets_of([[1], [0], [5], [2]]).shape == (4, 1)
    assert targets_of([True, False, True, True], 2).tolist() == [[0, 1], [1, 0], [0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("labels", "num_classes", "words"),
    [
        ([1, 2, 3, 3], 3, "from 0 to 2. Received: 3 at row 2; they range from 1 to 3. Subtract 1"),
        ([[1], [2], [3], [3]], 3, "Received: 3 at row 2"),
        ([-1, 0, 1, 2], 3, "Received: -1 at row 0"),
        ([-1, 0, 1, 2], None, ">= 0. Received: -1 at row 0"),
        ([[0], [-1], [1], [2]], None, "Received: -1"),
        ([0.2, 0.9, 1.9, 2.0], 3, "Received: 0.2 at row 0"),
        ([0, 1, 2, 2.5], 3, "Received: 2.5 at row 3"),
        ([0, None, 1, 2], 3, "finite numbers. Received: None at row 1"),
        ([0, float("nan"), 1, 2], 3, "finite numbers. Received: nan at row 1"),
        ([0, float("inf"), 1, 2], None, "finite numbers. Received: inf at row 1"),
        ([[0.0, 1.0], [0, float("nan")], [1, 1], [1, 0]], 2, r"Received: nan at index \(1, 1\)"),
        (["a", "b", "a", "b"], 2, r"'<U1' of shape \(4,\). Of names, `np.unique"),
        ([b"a"] * 4, None, "'|S1'"),
        (np.array(["a", None, 1, 2], object), 3, "finite numbers. Received: a at row 0"),
        ([[1], [1, 2], [0], [0]], 3, "one array of numbers. Received: .* inhomogeneous"),
        (np.zeros((4, 5)), 3, r"shape \(n, 3\). Received: shape \(4, 5\)"),
        (np.zeros((4, 2, 2), int), 3, r"Received: shape \(4, 2, 2\)"),
        ([0, 1, 2], 3, "one length"),
        (3, 3, r"one row a picture. Received: 'int64' of shape \(\)"),
        ([0, 0, 0, 0], 0, "`num_classes` must be an int"),
    ],
)
def test_labels_that_tell_no_targets_are_refused(labels, num_classes, words):
    with pytest.raises(ValueError, match=words):
        targets_of(labels, num_classes)


def test_affine_moves_by_hand():
    picture = np.random.default_rng(1).uniform(0, 255, (1, 6, 6, 3)).astype(np.float32)
    # Whole pixels in exact arithmetic; cos(π/2) in float32 is 4e-8, times 255 grey levels.
    close = {"rtol": 0, "atol": 1e-3}
    np.testing.assert_allclose(moved(picture), picture, **EXACT)
    np.testing.assert_allclose(moved(picture, sign=-1), picture[:, :, ::-1], **EXACT)
    turned = moved(picture, angle=np.pi / 2)
    np.testing.assert_allclose(turned, np.rot90(picture, axes=(1, 2)), **close)
    down = moved(picture, shift=(2, 0))
    np.testing.assert_allclose(down[:, :4], picture[:, 2:], **close)
    right = moved(picture, shift=(0, 1))
    np.testing.assert_allclose(right[:, :, :5], picture[:, :, 1:], **close)
    # Magnified twice about the centre 2.5: output 1 is read at 2.5 + (1 - 2.5) / 2 = 1.75.
    row = np.arange(6, dtype=np.float32).reshape(1, 1, 6, 1) * np.ones((1, 6, 1, 1), np.float32)
    np.testing.assert_allclose(moved(row, scale=2.0)[0, 0, 1, 0], 1.75, rtol=1e-6)


def test_affine_layer_starts_as_the_identity_and_round_trips(tmp_path):
    pictures = np.random.default_rng(1).uniform(0, 255, (4, 6, 8, 3)).astype(np.float32)
    np.testing.assert_allclose(RandomAffine()(pictures, training=True), pictures, **EXACT)
    layer = RandomAffine(mirror=True, rotation=0.1, zoom=0.2, shift=0.1, seed=3)
    np.testing.assert_allclose(layer(pictures), pictures, **EXACT)
    model = keras.Sequential([keras.Input((6, 8, 3)), layer])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras").layers[-1]
    assert loaded.get_config() == layer.get_config()
    one, two = layer(pictures, training=True), loaded(pictures, training=True)
    np.testing.assert_allclose(one, two, **EXACT)
    assert not np.array_equal(one, layer(pictures, training=True))


def test_mirror_alone_gives_each_picture_or_its_mirror_image():
    pictures = np.random.default_rng(1).uniform(0, 255, (64, 4, 4, 3)).astype(np.float32)
    out = np.asarray(RandomAffine(mirror=True, seed=1)(pictures, training=True))
    kept = (out == pictures).all(axis=(1, 2, 3))
    np.testing.assert_allclose(out[~kept], pictures[~kept][:, :, ::-1], **EXACT)
    assert 16 < kept.sum() < 48  # 32 are expected; 16 is four standard deviations


def test_augmenter_sets_every_seed_of_every_layer():
    for level in AUGMENTATIONS:
        assert len(Augmenter(level)._seeds) == len(augmentation_layers(level))
