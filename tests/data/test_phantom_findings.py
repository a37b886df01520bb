"""Tests of phantoms with several findings: independent, masked, and unseen by controls."""

import dataclasses
import hashlib
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from trainer.analysis import controls
from trainer.data import phantom, records, shortcuts
from trainer.data.phantom import FINDINGS
from trainer.data.records import Records

COUNT = len(FINDINGS)
FIRST_TEST_INDEX = 10**6


@pytest.mark.parametrize(
    ("arguments", "start"),
    [
        ((0, 0, 0, 64), "8389bf0b8a6870fe"),
        ((0, 0, 1, 64), "fff5f7e8b851ed9d"),
        ((7, 3, 1, 128), "3185444ac694fc9c"),
        ((0, 1000001, 1, 500), "c8c89c52997af0b4"),
        ((3, 12, 0, 500), "df1dc1d885a5f9b8"),
        ((2**31 - 1, 10**7, 1, 100), "7ae82fb843028f97"),
    ],
)
def test_phantoms_with_a_single_label_are_those_of_version_3(arguments, start):
    example = phantom.draw(*arguments)
    content = example.image.tobytes() + example.lung_mask.tobytes() + example.lesion_mask.tobytes()
    # Recorded before there were several findings.
    assert hashlib.sha256(content).hexdigest().startswith(start)


@settings(max_examples=20, deadline=None)
@given(
    st.integers(0, 1000),
    st.integers(0, 10**6),
    st.lists(st.booleans(), min_size=COUNT, max_size=COUNT),
    st.integers(0, COUNT - 1),
    st.sampled_from([64, 128, 250]),
)
def test_a_finding_changes_nothing_of_the_others_nor_of_the_body(seed, index, others, number, side):
    absent = [*others[:number], False, *others[number + 1 :]]
    present = [*others[:number], True, *others[number + 1 :]]
    without = phantom.draw_findings(seed, index, absent, side)
    changed = phantom.draw_findings(seed, index, present, side)
    np.testing.assert_array_equal(changed.present, present)
    np.testing.assert_array_equal(changed.lung_mask, without.lung_mask)
    rest = np.arange(COUNT) != number
    np.testing.assert_array_equal(changed.finding_masks[rest], without.finding_masks[rest])
    assert not without.finding_masks[number].any()
    mask = changed.finding_masks[number]
    assert mask.any()
    from_lung = ndimage.distance_transform_cdt(~changed.lung_mask, metric="chessboard")
    # Masks are resampled separately, so edges may differ.
    assert from_lung[mask].max() <= 2 + 0.01 * side
    gain = changed.image.astype(int) - without.image
    assert not gain[from_lung > 2 + 0.02 * side].any()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 10**6), st.sampled_from(list(FINDINGS)))
def test_outside_its_mask_a_finding_only_compensates(seed, index, name):
    clear = phantom.draw_findings(seed, index, [False] * COUNT, 128)
    ill = phantom.draw_findings(seed, index, [name == other for other in FINDINGS], 128)
    gain = ill.image.astype(float) - clear.image
    mask = ill.finding_masks[list(FINDINGS).index(name)]
    spared = ill.lung_mask & ~ndimage.binary_dilation(mask, iterations=3)
    # Air darkens; all else brightens.
    sign = -1.0 if name == "pneumothorax" else 1.0
    assert sign * gain[mask].mean() > 4.0 + sign * gain[spared].mean()
    # Spared lung compensates: it changes the other way.
    assert (sign * gain[spared]).max() <= 2.0


def test_presence_is_balanced_and_independent():
    presence = np.array([phantom.findings_of(3, index, COUNT) for index in range(2000)])
    pairs = presence.reshape(-1, 2, COUNT)
    assert (pairs.sum(axis=1) == 1).all()
    # Of 1,000 pairs: chance stays within 0.5 +- 0.05 in 99.8 % of cases.
    assert (np.abs(pairs[:, 0].mean(axis=0) - 0.5) < 0.05).all()
    for first, second in itertools.combinations(range(COUNT), 2):
        agreement = (presence[:, first] == presence[:, second]).mean()
        assert abs(agreement - 0.5) < 0.05


def test_more_findings_leave_the_presence_of_the_first_unchanged():
    for index in range(50):
        all_findings = phantom.findings_of(1, index, COUNT)
        assert phantom.findings_of(1, index, 2) == all_findings[:2]
        assert phantom.label_of(1, index) == all_findings[0]


def test_one_finding_more_than_there_are_is_rejected():
    with pytest.raises(ValueError, match=f"at most {COUNT} findings"):
        phantom.draw_findings(0, 0, [True] * (COUNT + 1), 64)


def drawn(first: int, count: int) -> Records:
    """Draws phantoms with any of the findings as records."""
    rows = []
    for index in range(first, first + count):
        present = phantom.findings_of(0, index, COUNT)
        example = phantom.draw_findings(0, index, present, 128)
        bits = np.zeros((128, 128), np.uint8)
        for bit, mask in enumerate(example.finding_masks):
            bits |= mask * np.uint8(1 << bit)
        name = b"%d" % index
        rows.append(
            {
                "image": example.image[..., None],
                "lesion_mask": bits[..., None],
                "label": -1,
                "findings": example.present.astype(np.int8),
                "filename": name,
                "group": name,
                "columns": "{}",
                "format": b"PNG",
                **dict.fromkeys(records.HEADER[:-1], 1),
            }
        )
    return records.from_rows(rows)


def test_records_hold_the_labels_and_the_mask_of_each_finding():
    examples = drawn(0, 6)
    assert examples.labels.shape == (6, COUNT)
    assert examples.lesion_masks.shape == (6, 128, 128, COUNT)
    assert examples.lesion_masks.dtype == bool
    np.testing.assert_array_equal(examples.lesion_masks.any(axis=(1, 2)), examples.labels == 1)
    truth = phantom.draw_findings(0, 5, phantom.findings_of(0, 5, COUNT), 128)
    np.testing.assert_array_equal(examples.lesion_masks[5].transpose(2, 0, 1), truth.finding_masks)


@pytest.mark.parametrize("number", range(COUNT))
def test_findings_stay_out_of_corners_and_border(number):
    clear = [phantom.draw_findings(0, index, [False] * COUNT, 128) for index in range(40)]
    only = [other == number for other in range(COUNT)]
    ill = [phantom.draw_findings(0, index, only, 128) for index in range(40)]
    for name in ("corners", "border"):
        inputs = []
        for examples in (clear, ill):
            images = np.stack([example.image for example in examples])[..., None]
            inputs.append(controls.INPUTS[name](SimpleNamespace(images=images)))  # [40, d]
        changes = np.abs(inputs[1] - inputs[0]).max(axis=1)
        # The tip of a lung rarely touches a corner.
        assert np.quantile(changes, 0.9) <= 2.0, name


def control_aucs(name: str, train: Records, test: Records) -> dict[str, float]:
    """Trains a control for each finding and returns its AUC on test."""
    features = controls.INPUTS[name]
    aucs = {}
    for number, finding in enumerate(FINDINGS):
        forest = RandomForestClassifier(300, random_state=0, n_jobs=2)
        forest.fit(features(train), train.labels[:, number])
        probabilities = forest.predict_proba(features(test))[:, 1]
        aucs[finding] = roc_auc_score(test.labels[:, number], probabilities)
    return aucs


def with_marker(examples: Records) -> Records:
    """Plants a marker into the images with the finding of shortcuts."""
    labels = examples.labels[:, list(FINDINGS).index(shortcuts.FINDING)]
    images = [
        shortcuts.plant(image[..., 0], label, "marker")
        for image, label in zip(examples.images, labels, strict=True)
    ]
    return dataclasses.replace(examples, images=np.stack(images)[..., None])


@pytest.mark.slow  # 600 phantoms and 16 forests.
def test_controls_are_at_chance_but_for_the_finding_of_a_planted_shortcut():
    train = drawn(0, 400)
    test = drawn(FIRST_TEST_INDEX, 200)
    for name in ("mean_and_deviation", "corners", "border"):
        # Of 200 images: chance stays within 0.5 +- 0.08 in 95 % of cases.
        assert max(control_aucs(name, train, test).values()) < 0.62, name
    planted = control_aucs("corners", with_marker(train), with_marker(test))
    assert planted.pop(shortcuts.FINDING) > 0.95
    assert max(planted.values()) < 0.62
